import { describe, expect, it } from 'vitest';

import type { Readiness } from '../api/health';
import { warningsOf } from './warnings';

const WELL: Readiness = {
  status: 'ready',
  policiesVersion: 1,
  parts: { store: { status: 'ok' }, catalog: { status: 'ok' } },
};

type Part = Readiness['parts']['store'];

function titles(parts: { store?: Part; catalog?: Part }, status = 'degraded'): string[] {
  return warningsOf({ ...WELL, status, parts: { ...WELL.parts, ...parts } }, false).map(({ title }) => title);
}

describe('warnings', () => {
  it('are none while all is well, or nothing is known yet', () => {
    expect(warningsOf(WELL, false)).toEqual([]);
    expect(warningsOf(undefined, false)).toEqual([]);
  });

  it('name the models that the gateway cannot answer for', () => {
    const gateway = { status: 'degraded', cause: 'modelsWithoutUpstream', models: ['a', 'b'] };
    const parts = { ...WELL.parts, gateway };
    const [warning] = warningsOf({ ...WELL, status: 'degraded', parts }, false);
    expect(warning?.title).toBe('No usable upstream for a, b.');
    const well = { ...WELL, parts: { ...WELL.parts, gateway: { status: 'ok', models: [] } } };
    expect(warningsOf(well, false)).toEqual([]);
  });

  it('name each part that is not well', () => {
    const lost: Part = { status: 'degraded', cause: 'unavailable', detail: 'x' };
    expect(titles({ store: lost, catalog: lost })).toEqual([
      'The store is unavailable.',
      'The catalog is unavailable.',
    ]);
    expect(titles({ store: { status: 'degraded', cause: 'out_of_memory' } })).toEqual([
      'The store is unavailable (out of memory).',
    ]);
    expect(titles({ store: { status: 'degraded', cause: 'evictsKeys' } })).toEqual([
      'Redis is evicting keys because it is short of memory.',
    ]);
    expect(titles({ catalog: { status: 'degraded', cause: 'changeRefused' } })).toEqual([
      'The latest change of the policies was rejected.',
    ]);
  });

  it('use the words of the server for a cause that is new', () => {
    const [warning] = warningsOf(
      {
        ...WELL,
        parts: { ...WELL.parts, catalog: { status: 'degraded', cause: 'new', detail: 'It burns.' } },
      },
      false,
    );
    expect(warning).toEqual({ label: 'Catalog degraded', title: 'Catalog degraded.', detail: 'It burns.' });
  });

  it('say that the server is gone, whatever it said last', () => {
    expect(warningsOf(WELL, true).map(({ label }) => label)).toEqual(['Offline']);
  });
});
