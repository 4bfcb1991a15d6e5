import { describe, expect, it } from 'vitest';

import { marksAt, nearestMark, placeOf, scaleOf, stepsPath, ticksPath, xOf, yOf } from './geometry';
import type { LimitWindow } from './windowModel';

const WINDOW: LimitWindow = {
  policyId: 'default',
  unit: 'requests',
  scope: 'USER',
  algorithm: 'sliding_window_log',
  limit: 4,
  windowMs: 1_000,
  admissions: [
    { at: 100, amount: 1 },
    { at: 600, amount: 2 },
  ],
  denials: [700],
  told: { at: 700, count: 3 },
  answers: [],
};
const SCALE = { origin: 100, pxPerMs: 0.5, top: 4, heightPx: 100 };

describe('the scale', () => {
  it('fits one window into the width and leaves room above the limit', () => {
    const scale = scaleOf(WINDOW, 0, 500, 100);
    expect(scale.pxPerMs).toBe(0.5);
    expect(yOf(scale, WINDOW.limit)).toBeGreaterThan(0);
    expect(yOf(scale, 0)).toBe(100);
    expect(xOf(scale, 1_000) - xOf(scale, 0)).toBe(500);
  });

  it('holds for a ban, whose limit is 0', () => {
    expect(scaleOf({ ...WINDOW, limit: 0, admissions: [] }, 0, 500, 100).top).toBeGreaterThan(0);
  });
});

describe('the line of steps', () => {
  it('rises at each admission and falls one window later', () => {
    expect(stepsPath(WINDOW, SCALE)).toBe('M0 100H0V75H250V25H500V50H750V100');
  });

  it('is nothing without admissions', () => {
    expect(stepsPath({ ...WINDOW, admissions: [] }, SCALE)).toBe('');
  });
});

describe('marks', () => {
  it('are strokes', () => {
    expect(ticksPath([100, 300], SCALE, 0, 10)).toBe('M0 0V10M100 0V10');
  });

  it('are those in the window, by time', () => {
    expect(marksAt(WINDOW, 1_000).map(({ at }) => at)).toEqual([100, 600, 700]);
    expect(marksAt(WINDOW, 1_100).map(({ at }) => at)).toEqual([600, 700]);
    expect(marksAt(WINDOW, 650).map(({ at }) => at)).toEqual([100, 600]);
  });

  it('are told apart when they were made at one moment', () => {
    const marks = marksAt({ ...WINDOW, denials: [600, 600, 700] }, 1_000);
    expect(marks.map((mark) => placeOf(mark, marks))).toEqual([0, 1, 2, 3, 4]);
    const later = marksAt({ ...WINDOW, denials: [600, 600, 700] }, 1_100);
    expect(marks.map((mark) => placeOf(mark, later))).toEqual([-1, 0, 1, 2, 3]);
  });

  it('are found where they are pointed at', () => {
    const marks = marksAt(WINDOW, 1_000);
    const cases: [number, number | null][] = [
      [100, 0],
      [620, 1],
      [690, 2],
      [400, null],
    ];
    for (const [at, index] of cases) expect([at, nearestMark(marks, at, 50)]).toEqual([at, index]);
  });
});
