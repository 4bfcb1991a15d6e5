import { describe, expect, it } from 'vitest';

import type { StatsEvent } from '../../api/events';
import { statsOf } from './fixtures';
import { EMPTY_HISTORY, MAX_GAP_MS, ratesBetween, reconnected, SPAN_MS, told, type History } from './history';

const START = 1_000_000;

function toldAll(history: History, all: readonly StatsEvent[]): History {
  return all.reduce(told, history);
}

/** Tellings a second apart of a server that allows `perSecond` from `allowed` on. */
function tellings(count: number, perSecond: number, from = START, allowed = 0): StatsEvent[] {
  return Array.from({ length: count }, (_, second) =>
    statsOf({ at: from + second * 1_000, allowed: allowed + second * perSecond }),
  );
}

function allowedRates(history: History): (number | null)[] {
  return history.samples.map(({ rates }) => rates?.allowed ?? null);
}

describe('rates between two tellings', () => {
  it('are the change by the time that passed', () => {
    const before = statsOf({ at: START, allowed: 100, denied: 10, degraded: 3 });
    const cases: [Partial<StatsEvent>, { allowed: number; denied: number; degraded: number } | null][] = [
      [
        { at: START + 1_000, allowed: 140, denied: 15, degraded: 3 },
        { allowed: 40, denied: 5, degraded: 0 },
      ],
      [
        { at: START + 2_000, allowed: 140, denied: 16, degraded: 5 },
        { allowed: 20, denied: 3, degraded: 1 },
      ],
      [
        { at: START + 1_000, allowed: 100, denied: 10, degraded: 3 },
        { allowed: 0, denied: 0, degraded: 0 },
      ],
    ];
    for (const [change, rates] of cases) {
      expect(ratesBetween(before, statsOf(change))).toEqual({ ...rates, policies: new Map() });
    }
  });

  it('are unknown where any counter began anew, and never negative', () => {
    const before = statsOf({ at: START, allowed: 100, denied: 10, degraded: 3 });
    const at = START + 1_000;
    const after: Partial<StatsEvent>[] = [
      { at, allowed: 0, denied: 0, degraded: 0 },
      { at, allowed: 500, denied: 2, degraded: 3 },
      { at, allowed: 500, denied: 20, degraded: 0 },
      { at, allowed: 99, denied: 20, degraded: 3 },
    ];
    for (const change of after) expect(ratesBetween(before, statsOf(change))).toBeNull();
  });

  it('are unknown where time stood still, went back, or hardly went on', () => {
    const before = statsOf({ at: START });
    for (const stepMs of [0, -1_000, 20]) {
      expect(ratesBetween(before, statsOf({ at: START + stepMs, allowed: 5 }))).toBeNull();
    }
  });

  it('are kept for each policy that decided', () => {
    const before = statsOf({
      at: START,
      policies: {
        busy: { allowed: 10, denied: 5 },
        idle: { allowed: 7, denied: 0 },
        made: { allowed: 90, denied: 9 },
        gone: { allowed: 1, denied: 1 },
      },
    });
    const after = statsOf({
      at: START + 2_000,
      policies: {
        busy: { allowed: 14, denied: 11 },
        idle: { allowed: 7, denied: 0 },
        made: { allowed: 4, denied: 2 },
        fresh: { allowed: 2, denied: 0 },
      },
    });
    expect(ratesBetween(before, after)?.policies).toEqual(
      new Map([
        ['busy', 5],
        ['made', 3],
        ['fresh', 1],
      ]),
    );
  });

  it('take a policy named like a property of objects for a policy', () => {
    const policies = JSON.parse('{"__proto__":{"allowed":4,"denied":0}}') as StatsEvent['policies'];
    for (const [before, expected] of [
      ['{"__proto__":{"allowed":1,"denied":0}}', 3],
      ['{}', 4],
    ] as const) {
      const earlier = statsOf({ at: START, policies: JSON.parse(before) as StatsEvent['policies'] });
      const rates = ratesBetween(earlier, statsOf({ at: START + 1_000, policies }));
      expect(rates?.policies).toEqual(new Map([['__proto__', expected]]));
    }
  });
});

describe('the history', () => {
  it('has no rate for what is told first, since that counts from the start of the server', () => {
    expect(allowedRates(toldAll(EMPTY_HISTORY, tellings(3, 50, START, 1_000_000)))).toEqual([null, 50, 50]);
  });

  it('compares nothing across connections, so that a restart or another node makes no spike', () => {
    const first = toldAll(EMPTY_HISTORY, tellings(2, 50, START, 900));
    for (const allowed of [0, 5_000_000]) {
      const after = toldAll(reconnected(first), tellings(2, 20, START + 3_000, allowed));
      expect(allowedRates(after)).toEqual([null, 50, null, 20]);
    }
  });

  it('keeps the last quarter of an hour and nothing older', () => {
    const { samples } = toldAll(EMPTY_HISTORY, tellings(2_000, 1));
    expect(samples.length).toBe(SPAN_MS / 1_000);
    expect((samples.at(-1)?.at ?? 0) - (samples[0]?.at ?? 0)).toBeLessThan(SPAN_MS);
  });

  it('is broken off where nothing was heard for long, and not by a second missed', () => {
    const [first, second] = tellings(2, 10);
    if (first === undefined || second === undefined) throw new Error('two were made');
    const history = toldAll(EMPTY_HISTORY, [first, second]);
    const soon = told(history, statsOf({ at: second.at + MAX_GAP_MS, allowed: 10 }));
    expect(soon.samples.length).toBe(3);
    const late = told(reconnected(history), statsOf({ at: second.at + MAX_GAP_MS + 1 }));
    expect(late.samples.length).toBe(4);
    expect(late.samples[2]).toMatchObject({ rates: null, latencyMicros: null, keys: null, parts: null });
  });

  it('stays in the order of time when the clock of the server steps back', () => {
    for (const backMs of [1, 500, 30_000, 10 * SPAN_MS]) {
      const before = toldAll(EMPTY_HISTORY, tellings(100, 5));
      const at = (before.samples.at(-1)?.at ?? 0) - backMs;
      const { samples } = toldAll(before, tellings(3, 5, at, 495));
      const times = samples.map((sample) => sample.at);
      expect(times).toEqual([...new Set(times)].sort((a, b) => a - b));
      expect(times.at(-1)).toBe(at + 2_000);
    }
  });

  it('never holds a negative rate, whatever counters do', () => {
    let seed = 7;
    const random = (): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return seed / 2_147_483_648;
    };
    let history = EMPTY_HISTORY;
    let at = START;
    for (let step = 0; step < 2_000; step += 1) {
      at += Math.floor(random() * 3_000) - 200;
      const tally = { allowed: Math.floor(random() * 100), denied: Math.floor(random() * 100) };
      history = told(history, statsOf({ at, ...tally, policies: { a: tally } }));
    }
    for (const { rates } of history.samples) {
      if (rates === null) continue;
      const all = [rates.allowed, rates.denied, rates.degraded, ...rates.policies.values()];
      expect(Math.min(...all)).toBeGreaterThanOrEqual(0);
    }
  });
});
