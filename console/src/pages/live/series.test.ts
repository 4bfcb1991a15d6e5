import { describe, expect, it } from 'vitest';

import type { Sample } from './history';
import {
  deniedShare,
  degradedPeriods,
  latencyValues,
  lonely,
  minutesOf,
  placesOf,
  policyValues,
  rateValues,
  restValues,
  topPolicies,
} from './series';

const WELL = { store: 'ok', catalog: 'ok' } as const;
const NO_STORE = { store: 'degraded', catalog: 'ok' } as const;
const NOTHING = { store: 'degraded', catalog: 'degraded' } as const;

function sampleOf(at: number, change: Partial<Sample> = {}): Sample {
  return { at, rates: null, latencyMicros: null, keys: null, parts: WELL, ...change };
}

function rated(at: number, allowed: number, denied: number, policies: Record<string, number> = {}): Sample {
  return sampleOf(at, {
    rates: { allowed, denied, degraded: 0, policies: new Map(Object.entries(policies)) },
  });
}

describe('values', () => {
  it('are null, not 0, where they are not known', () => {
    const samples = [sampleOf(1), rated(2, 5, 1, { a: 4, b: 2 }), rated(3, 0, 0)];
    expect(rateValues(samples, 'allowed')).toEqual([null, 5, 0]);
    expect(rateValues(samples, 'denied')).toEqual([null, 1, 0]);
    expect(policyValues(samples, 'a')).toEqual([null, 4, 0]);
    expect(restValues(samples, new Set(['a']))).toEqual([null, 2, 0]);
    expect(latencyValues(samples, 'p99')).toEqual([null, null, null]);
  });
});

describe('the top policies', () => {
  it('are those that decided most over all samples, and never the rest that the server adds up', () => {
    const samples = [
      rated(1, 0, 0, { a: 9, b: 1, '(other)': 900 }),
      sampleOf(2),
      rated(3, 0, 0, { b: 20, c: 9, d: 1 }),
    ];
    expect(topPolicies(samples, 3)).toEqual(['b', 'a', 'c']);
    expect(topPolicies([])).toEqual([]);
  });

  it('keep their places while others come and go', () => {
    const cases: [(string | null)[], string[], (string | null)[]][] = [
      [[], ['a', 'b'], ['a', 'b']],
      [
        ['a', 'b'],
        ['b', 'a'],
        ['a', 'b'],
      ],
      [
        ['a', 'b', 'c'],
        ['c', 'd', 'a'],
        ['a', 'd', 'c'],
      ],
      [['a', 'b'], ['b'], [null, 'b']],
      [
        [null, 'b'],
        ['b', 'x', 'y'],
        ['x', 'b', 'y'],
      ],
    ];
    for (const [before, names, after] of cases) expect(placesOf(before, names)).toEqual(after);
  });
});

describe('lonely values', () => {
  it('are those that a line would not show', () => {
    const cases: [(number | null)[], number[]][] = [
      [[], []],
      [[1], [0]],
      [[1, 2], []],
      [
        [null, 1, null, 2, 3, null, 4],
        [1, 6],
      ],
      [[0, null], [0]],
    ];
    for (const [values, indexes] of cases) expect(lonely(values)).toEqual(indexes);
  });
});

describe('degraded periods', () => {
  it('last from the first telling that says so to the first that does not', () => {
    const samples = [
      sampleOf(1),
      sampleOf(2, { parts: NO_STORE }),
      sampleOf(3, { parts: NO_STORE }),
      sampleOf(4),
      sampleOf(5, { parts: NO_STORE }),
    ];
    expect(degradedPeriods(samples)).toEqual([
      { from: 2, to: 4, parts: ['store'] },
      { from: 5, to: 5, parts: ['store'] },
    ]);
  });

  it('are told apart by the parts', () => {
    const samples = [sampleOf(1, { parts: NO_STORE }), sampleOf(2, { parts: NOTHING }), sampleOf(3)];
    expect(degradedPeriods(samples)).toEqual([
      { from: 1, to: 2, parts: ['store'] },
      { from: 2, to: 3, parts: ['store', 'catalog'] },
    ]);
  });

  it('do not reach into a gap', () => {
    const samples = [
      sampleOf(1, { parts: NO_STORE }),
      sampleOf(2, { parts: NO_STORE }),
      sampleOf(3, { parts: null }),
      sampleOf(60, { parts: NO_STORE }),
      sampleOf(61),
    ];
    expect(degradedPeriods(samples)).toEqual([
      { from: 1, to: 2, parts: ['store'] },
      { from: 60, to: 61, parts: ['store'] },
    ]);
  });
});

describe('minutes', () => {
  it('hold the mean rate, the worst latency, the last count of keys and what was degraded', () => {
    const latencyMicros = { p50: 1, p95: 2, p99: 30 };
    const samples = [
      { ...rated(0, 10, 0), latencyMicros, keys: 5 },
      { ...rated(1_000, 20, 4), latencyMicros: { ...latencyMicros, p99: 90 }, parts: NO_STORE },
      sampleOf(2_000),
      sampleOf(60_000),
    ];
    expect(minutesOf(samples)).toEqual([
      { at: 60_000, allowed: null, denied: null, p99Micros: null, keys: null, degraded: [] },
      { at: 0, allowed: 15, denied: 2, p99Micros: 90, keys: 5, degraded: ['store'] },
    ]);
  });
});

describe('the denied share', () => {
  it('is over the last while, by decisions and not by seconds', () => {
    const samples = [rated(0, 0, 900), rated(50_000, 10, 10), sampleOf(51_000), rated(60_000, 70, 10)];
    expect(deniedShare(samples, 60_000)).toBe(0.2);
  });

  it('is unknown where nothing was decided', () => {
    expect(deniedShare([], 60_000)).toBeNull();
    expect(deniedShare([rated(0, 0, 0)], 60_000)).toBeNull();
  });
});
