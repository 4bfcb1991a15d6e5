/** Where the timeline draws what. Pure; x is milliseconds relative to `origin`, which the drawing slides as time goes. */
import { usageSteps, type LimitWindow } from './windowModel';

export interface Scale {
  readonly origin: number;
  readonly pxPerMs: number;
  /** The usage that is drawn at the top. */
  readonly top: number;
  readonly heightPx: number;
}

/** Room above the limit line, so that it is seen whole. */
const HEADROOM = 1.15;

export function scaleOf(window: LimitWindow, origin: number, widthPx: number, heightPx: number): Scale {
  const usages = usageSteps(window).map(({ usage }) => usage);
  const most = usages.reduce((most, usage) => Math.max(most, usage), Math.max(1, window.limit));
  return { origin, pxPerMs: widthPx / window.windowMs, top: most * HEADROOM, heightPx };
}

export function xOf(scale: Scale, at: number): number {
  return (at - scale.origin) * scale.pxPerMs;
}

export function yOf(scale: Scale, usage: number): number {
  return scale.heightPx * (1 - usage / scale.top);
}

function rounded(value: number): string {
  return String(Math.round(value * 100) / 100);
}

/** The usage as a line of steps, and on into the future, which the drawing hides until it is now. */
export function stepsPath(window: LimitWindow, scale: Scale): string {
  const steps = usageSteps(window);
  const first = steps[0];
  if (first === undefined) return '';
  const parts = [`M${rounded(xOf(scale, first.at))} ${rounded(yOf(scale, 0))}`];
  for (const { at, usage } of steps) {
    parts.push(`H${rounded(xOf(scale, at))}`, `V${rounded(yOf(scale, usage))}`);
  }
  return parts.join('');
}

/** A stroke for each moment, from `top` to `bottom`. */
export function ticksPath(moments: readonly number[], scale: Scale, top: number, bottom: number): string {
  return moments.map((at) => `M${rounded(xOf(scale, at))} ${rounded(top)}V${rounded(bottom)}`).join('');
}

export interface Mark {
  readonly kind: 'admission' | 'denial';
  readonly at: number;
  /** Tells apart those of one moment, which clocks are too coarse to do. */
  readonly nth: number;
  /** What it took: 0 for a denial. */
  readonly amount: number;
  /** Of what was counted: whether the check was denied all the same. */
  readonly isDenied?: boolean;
  /** When an answer told that it had left, if that was before its time. */
  readonly left?: number;
}

/** What can be pointed at, by time. */
export function marksAt(window: LimitWindow, now: number): readonly Mark[] {
  const admissions = window.admissions.map((one) => ({ kind: 'admission' as const, ...one }));
  const denials = window.denials.map((at) => ({ kind: 'denial' as const, at, amount: 0 }));
  const from = now - window.windowMs;
  const seen = [...admissions, ...denials].filter(({ at }) => at > from && at <= now);
  let [last, nth] = [Number.NaN, 0];
  return seen
    .sort((a, b) => a.at - b.at)
    .map((mark) => {
      nth = mark.at === last ? nth + 1 : 0;
      last = mark.at;
      return { ...mark, nth };
    });
}

/** Where `mark` is among `marks`; -1 once it has left the window. */
export function placeOf(mark: Mark, marks: readonly Mark[]): number {
  return marks.findIndex(({ at, nth }) => at === mark.at && nth === mark.nth);
}

/** The index of the mark that is nearest to `at`, if it is within `toleranceMs`. */
export function nearestMark(marks: readonly Mark[], at: number, toleranceMs: number): number | null {
  let [best, distance] = [-1, toleranceMs];
  for (const [index, mark] of marks.entries()) {
    const away = Math.abs(mark.at - at);
    if (away <= distance) [best, distance] = [index, away];
  }
  return best < 0 ? null : best;
}
