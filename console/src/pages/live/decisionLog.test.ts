import { describe, expect, it } from 'vitest';

import { DecisionLog } from './decisionLog';
import { decisionOf } from './fixtures';

function logOf(count: number, capacity: number): DecisionLog {
  const log = new DecisionLog(capacity);
  for (let at = 1; at <= count; at += 1) log.add(decisionOf({ at, allowed: at % 2 === 0 }));
  return log;
}

function times(log: DecisionLog): number[] {
  return log.newestFirst().map(({ decision }) => decision.at);
}

describe('the log of decisions', () => {
  it('holds the last ones, the newest first', () => {
    const cases: [number, number[]][] = [
      [0, []],
      [2, [2, 1]],
      [3, [3, 2, 1]],
      [4, [4, 3, 2]],
      [11, [11, 10, 9]],
    ];
    for (const [count, expected] of cases) expect(times(logOf(count, 3))).toEqual(expected);
  });

  it('hands out a copy that stays as it was', () => {
    const log = logOf(3, 3);
    const shown = log.newestFirst();
    log.add(decisionOf({ at: 4 }));
    expect(shown.map(({ decision }) => decision.at)).toEqual([3, 2, 1]);
  });

  it('numbers every one, also those that it no longer holds', () => {
    const log = logOf(5, 2);
    expect(log.total).toBe(5);
    expect(log.newestFirst().map(({ seq }) => seq)).toEqual([5, 4]);
  });

  it('keeps only what meets a filter, and goes on in order', () => {
    for (const count of [4, 7]) {
      const log = logOf(count, 4);
      const even = times(log).filter((at) => at % 2 === 0);
      log.keepOnly(({ allowed }) => allowed);
      expect(times(log)).toEqual(even);
      for (const at of [100, 101, 102]) log.add(decisionOf({ at }));
      expect(times(log)).toEqual([102, 101, 100, ...even].slice(0, 4));
    }
  });
});
