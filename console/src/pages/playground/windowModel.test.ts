import { describe, expect, it } from 'vitest';

import {
  admissionsAt,
  isExact,
  leavesAt,
  MAX_ADMISSIONS,
  MAX_ANSWERS,
  MAX_DENIALS,
  nextToLeave,
  observe,
  prune,
  usageAt,
  usageOfOthers,
  usageSteps,
  type LimitWindow,
  type Observation,
} from './windowModel';

const WINDOW_MS = 1_000;

function at(time: number, change: Partial<Observation> = {}): Observation {
  return {
    sentAt: time,
    at: time,
    policyId: 'default',
    unit: 'requests',
    scope: 'USER_MODEL',
    algorithm: 'sliding_window_log',
    limit: 3,
    windowMs: WINDOW_MS,
    admits: true,
    charged: 1,
    // As if others used much: it takes nothing of this page's away.
    count: 1_000_000,
    ...change,
  };
}

function windowOf(...observations: readonly Observation[]): LimitWindow {
  const [first = at(0, { charged: 0, count: 0 }), ...rest] = observations;
  return rest.reduce<LimitWindow>((window, one) => observe(window, one), observe(undefined, first));
}

describe('an admission', () => {
  it('is in the window from its moment until exactly one window later (R1)', () => {
    const window = windowOf(at(100));
    const cases: [number, number][] = [
      [99, 0],
      [100, 1],
      [1_099, 1],
      [1_099.999, 1],
      [1_100, 0],
      [5_000, 0],
    ];
    for (const [now, usage] of cases) expect([now, usageAt(window, now)]).toEqual([now, usage]);
  });

  it('counts what it cost', () => {
    const window = windowOf(at(0, { charged: 400 }), at(10, { charged: 50 }));
    expect(usageAt(window, 10)).toBe(450);
    expect(usageAt(window, 1_000)).toBe(50);
  });

  it('leaves one window after it was made', () => {
    const window = windowOf(at(100), at(250));
    const [first] = window.admissions;
    expect(first && leavesAt(window, first)).toBe(1_100);
  });

  it('is not made by a check that was charged nothing', () => {
    const window = windowOf(at(0, { charged: 0 }));
    expect(window.admissions).toEqual([]);
    expect(window.denials).toEqual([]);
  });

  it('finds its place by time when its answer was overtaken', () => {
    const window = windowOf(at(10), at(30), at(20), at(20), at(5));
    expect(window.admissions.map((one) => one.at)).toEqual([5, 10, 20, 20, 30]);
  });
});

describe('a denial', () => {
  it('is a mark and uses nothing', () => {
    const window = windowOf(at(0), at(10, { admits: false, charged: 0 }));
    expect(window.denials).toEqual([10]);
    expect(usageAt(window, 10)).toBe(1);
  });

  it('is forgotten after one window', () => {
    const window = windowOf(at(0, { admits: false, charged: 0 }));
    expect(prune(window, 999).denials).toEqual([0]);
    expect(prune(window, 1_000).denials).toEqual([]);
  });

  it('by another limit marks nothing here', () => {
    const window = windowOf(at(0, { admits: true, charged: 0 }));
    expect(window.denials).toEqual([]);
  });
});

describe('the next to leave', () => {
  it('is the oldest that is still in', () => {
    const window = windowOf(at(0), at(400), at(900));
    const cases: [number, number | null][] = [
      [900, 0],
      [999, 0],
      [1_000, 400],
      [1_400, 900],
      [1_899, 900],
      [1_900, null],
    ];
    for (const [now, expected] of cases) {
      expect([now, nextToLeave(window, now)?.at ?? null]).toEqual([now, expected]);
    }
  });

  it('is nothing in an empty window', () => {
    expect(nextToLeave(windowOf(), 0)).toBeNull();
  });
});

describe('pruning', () => {
  it('keeps two windows of admissions, which the usage of the past window needs', () => {
    const window = windowOf(at(0), at(500));
    expect(prune(window, 1_999).admissions).toHaveLength(2);
    expect(prune(window, 2_000).admissions).toHaveLength(1);
    expect(prune(window, 2_500).admissions).toHaveLength(0);
  });

  it('never tells a usage that is too low and lets nothing leave early when it joins admissions', () => {
    const many = Array.from({ length: MAX_ADMISSIONS + 1 }, (_, index) => ({ at: index / 100, amount: 2 }));
    const full: LimitWindow = { ...windowOf(), admissions: many };
    const joined = prune(full, 200);
    expect(joined.admissions.length).toBeLessThanOrEqual(MAX_ADMISSIONS);
    for (const now of [200.01, 900, 1_050, 1_100.005, 1_199.99, 1_200]) {
      expect(usageAt(joined, now)).toBeGreaterThanOrEqual(usageAt(full, now));
    }
    expect(usageAt(joined, 200.01)).toBe(2 * (MAX_ADMISSIONS + 1));
  });

  it('keeps the latest denials', () => {
    const denials = Array.from({ length: MAX_DENIALS + 5 }, (_, index) => index / 100);
    const pruned = prune({ ...windowOf(), denials }, 60);
    expect(pruned.denials).toHaveLength(MAX_DENIALS);
    expect(pruned.denials.at(-1)).toBe(denials.at(-1));
  });
});

describe('what others used', () => {
  it('is what the server counted and this page did not admit', () => {
    expect(usageOfOthers(windowOf(at(0, { count: 8 })))).toBe(7);
    expect(usageOfOthers(windowOf(at(0, { count: 1 })))).toBe(0);
  });

  it('does not grow when an admission of this page leaves', () => {
    const window = windowOf(at(0, { count: 1 }), at(1_000, { count: 1 }));
    expect(usageOfOthers(window)).toBe(0);
  });

  it('is never negative where answers overtook each other', () => {
    const window = windowOf(at(0, { count: 2 }), at(1, { count: 1 }));
    expect(usageOfOthers(window)).toBe(0);
  });

  it('follows the newest answer, whichever came last', () => {
    const window = windowOf(at(10, { count: 5 }), at(5, { count: 90 }));
    expect(window.told).toEqual({ at: 10, count: 5 });
  });
});

describe('the steps of usage', () => {
  it('rise with each admission and fall one window later', () => {
    expect(usageSteps(windowOf(at(0), at(400, { charged: 2 })))).toEqual([
      { at: 0, usage: 1 },
      { at: 400, usage: 3 },
      { at: 1_000, usage: 2 },
      { at: 1_400, usage: 0 },
    ]);
  });

  it('take what happens at one moment as one step', () => {
    expect(usageSteps(windowOf(at(0), at(1_000)))).toEqual([
      { at: 0, usage: 1 },
      { at: 1_000, usage: 1 },
      { at: 2_000, usage: 0 },
    ]);
  });

  it('agree with the usage at every moment', () => {
    const window = windowOf(at(3), at(3), at(250), at(700, { charged: 5 }), at(1_003), at(1_600));
    const steps = usageSteps(window);
    for (let now = 0; now < 1_700; now += 1) {
      const step = steps.findLast((one) => one.at <= now);
      expect([now, step?.usage ?? 0]).toEqual([now, usageAt(window, now)]);
    }
  });
});

describe('a window', () => {
  it('follows a change of its policy and keeps its usage (R8)', () => {
    const window = windowOf(at(0), at(10, { limit: 50, windowMs: 2_000 }));
    expect(window.limit).toBe(50);
    expect(usageAt(window, 1_500)).toBe(2);
    expect(admissionsAt(window, 2_000)).toEqual([{ at: 10, amount: 1 }]);
  });

  it('is exact for a log alone', () => {
    expect(isExact(windowOf(at(0)))).toBe(true);
    expect(isExact(windowOf(at(0, { algorithm: 'sliding_window_counter' })))).toBe(false);
  });
});

describe('what an answer told of the usage', () => {
  it('makes the oldest leave that the store no longer has', () => {
    const window = windowOf(at(0, { count: 1 }), at(100, { count: 2 }), at(990, { count: 2 }));
    expect(usageAt(window, 989)).toBe(2);
    expect(usageAt(window, 990)).toBe(2);
    expect(nextToLeave(window, 990)?.at).toBe(100);
  });

  it('of two checks that were under way at once is the greater one', () => {
    const first = at(10, { sentAt: 0, count: 2 });
    const second = at(11, { sentAt: 0, count: 1 });
    expect(usageAt(windowOf(first, second), 11)).toBe(2);
  });

  it('takes nothing away from checks that were under way at once, in whatever order their answers come', () => {
    const orders = (rest: readonly number[]): number[][] =>
      rest.length === 0
        ? [[]]
        : rest.flatMap((one) =>
            orders(rest.filter((other) => other !== one)).map((order) => [one, ...order]),
          );
    for (const order of orders([1, 2, 3, 4, 5])) {
      const window = windowOf(...order.map((count, place) => at(10 + place, { sentAt: 0, limit: 5, count })));
      expect([order, usageAt(window, 20), usageOfOthers(window)]).toEqual([order, 5, 0]);
    }
  });

  it('says nothing of the admissions of a counter, which fades (R2)', () => {
    const counter = { algorithm: 'sliding_window_counter' };
    const window = windowOf(at(0, counter), at(1, counter), at(2, { ...counter, count: 1 }));
    expect(usageAt(window, 2)).toBe(3);
  });
});

/** Numbers that look random and are the same in each run (mulberry32). */
function randoms(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

it('keeps as many answers as its bound, and of more the latest', () => {
  const observed = (count: number): LimitWindow => {
    const first = at(0, { charged: 0, count: 0 });
    const rest = Array.from({ length: count - 1 }, (_, index) => at(index + 1, { charged: 0, count: 0 }));
    return rest.reduce((window, one) => observe(window, one), observe(undefined, first));
  };
  const atBound = observed(MAX_ANSWERS).answers;
  expect(atBound).toHaveLength(MAX_ANSWERS);
  expect(atBound[0]?.at).toBe(0);
  const beyond = observed(MAX_ANSWERS + 1).answers;
  expect(beyond).toHaveLength(MAX_ANSWERS);
  expect([beyond[0]?.at, beyond.at(-1)?.at]).toEqual([1, MAX_ANSWERS]);
});

/** Answers of an exact log to checks that are sent at any time, and are under way for any time. */
function answers(seed: number, limit: number): Observation[] {
  const random = randoms(seed);
  const checks = Array.from({ length: 400 }, () => {
    const sentAt = random() * 8_000;
    const decidedAt = sentAt + random() * 150;
    return { sentAt, decidedAt, arrivesAt: decidedAt + random() * 150, cost: 1 + Math.floor(random() * 3) };
  });
  checks.sort((a, b) => a.decidedAt - b.decidedAt);
  const admitted: { at: number; cost: number }[] = [];
  const told = checks.map(({ sentAt, decidedAt, arrivesAt, cost }) => {
    const held = admitted.filter((one) => one.at > decidedAt - WINDOW_MS);
    const usage = held.reduce((sum, one) => sum + one.cost, 0);
    const admits = usage + cost <= limit;
    if (admits) admitted.push({ at: decidedAt, cost });
    const [charged, count] = admits ? [cost, usage + cost] : [0, usage];
    return at(arrivesAt, { sentAt, limit, admits, charged, count });
  });
  return told.sort((a, b) => a.at - b.at);
}

describe('the usage that is drawn', () => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('is never above the limit, however late answers come (%i)', (seed) => {
    const limit = 5 + seed * 3;
    let window: LimitWindow | undefined;
    for (const answer of answers(seed, limit)) {
      window = observe(window, answer);
      expect(usageAt(window, answer.at)).toBeLessThanOrEqual(limit);
      for (const { usage } of usageSteps(window)) expect(usage).toBeLessThanOrEqual(limit);
    }
  });
});
