/**
 * The window of one limit, as this page saw it: which admissions it holds, what leaves next, and the usage at any
 * moment. Pure: every function takes the time, in milliseconds of one monotonic clock.
 *
 * An admission is in the window during [at, at + window) and leaves exactly one window after it was made (R1). The
 * page knows an admission's moment only to within the time that the answer took; it takes the arrival of the answer. So
 * what is the oldest here may have left the store already; an answer that tells of less usage says so, and it leaves
 * here as well. The usage of a log is thus never above what an answer told, nor above the limit unless the policy counts
 * what it denies.
 */

export interface Admission {
  readonly at: number;
  /** How much of the limit's unit it took. */
  readonly amount: number;
  /** Whether the check was denied, and counted all the same (`overLimit: charge`). */
  readonly isDenied?: boolean;
  /** When an answer told that it had left, if that was before its time. */
  readonly left?: number;
}

export interface LimitWindow {
  readonly policyId: string;
  readonly unit: string;
  readonly scope: string;
  readonly algorithm: string;
  readonly limit: number;
  readonly windowMs: number;
  /** By time. Kept for two windows: usage in the past needs what was in the window then. */
  readonly admissions: readonly Admission[];
  /** When checks were denied by this limit and not counted, by time. */
  readonly denials: readonly number[];
  /** The usage that the server told last, and when. It counts others' admissions too. */
  readonly told: Told | null;
  /** The last answers, by time: a check that was under way with some of them may have been decided before they were. */
  readonly answers: readonly Told[];
}

/** A usage that an answer told, and when it arrived. */
export interface Told {
  readonly at: number;
  readonly count: number;
}

/** What a decision said of one limit. */
export interface Observation {
  /** When the check was sent. */
  readonly sentAt: number;
  /** When its answer arrived. */
  readonly at: number;
  readonly policyId: string;
  readonly unit: string;
  readonly scope: string;
  readonly algorithm: string;
  readonly limit: number;
  readonly windowMs: number;
  /** Whether this limit admitted the check. */
  readonly admits: boolean;
  /** Whether the check was denied, by this limit or another one. */
  readonly isDenied?: boolean;
  /** What the check took from it: 0 if the check was denied, unless the policy counts that. */
  readonly charged: number;
  /** The usage after the decision. */
  readonly count: number;
}

/** The most admissions that are kept by themselves; above it, neighbours are joined. */
export const MAX_ADMISSIONS = 20_000;
/** The most denials that are kept; above it, the oldest go. */
export const MAX_DENIALS = 5_000;

/** The most answers that are kept: more than a browser has under way at once. */
export const MAX_ANSWERS = 256;

/** Puts `observation` into `window`, or starts one. */
export function observe(window: LimitWindow | undefined, observation: Observation): LimitWindow {
  const { policyId, unit, scope, algorithm, limit, windowMs, at } = observation;
  const known = window ?? { admissions: [], denials: [], told: null, answers: [] };
  const isNewer = known.told === null || at >= known.told.at;
  const isCounted = observation.charged > 0;
  const charge = {
    at,
    amount: observation.charged,
    ...(observation.isDenied === true && { isDenied: true }),
  };
  const admissions = isCounted ? insert(known.admissions, charge) : known.admissions;
  const isDenial = !observation.admits && !isCounted;
  const denials = isDenial ? [...known.denials, at].sort((a, b) => a - b) : known.denials;
  const most = bound(known.answers, observation);
  const told = isNewer ? { at, count: most } : known.told;
  const answers = insert(known.answers, { at, count: observation.count }).slice(-MAX_ANSWERS);
  const observed = { policyId, unit, scope, algorithm, limit, windowMs, admissions, denials, told, answers };
  return prune(isExact(observed) ? settle(observed, at, most) : observed, at);
}

/**
 * The most that the window can hold when `observation` is made. Of checks that were under way at once nobody knows
 * which was decided first, so the greatest count stands.
 */
function bound(answers: readonly Told[], { sentAt, count }: Observation): number {
  return answers.reduce((most, told) => (sentAt < told.at ? Math.max(most, told.count) : most), count);
}

/** `window` without its oldest admissions from `at` on, so far as they are more than `most`. */
function settle(window: LimitWindow, at: number, most: number): LimitWindow {
  let tooMuch = usageAt(window, at) - most;
  if (tooMuch <= 0) return window;
  const admissions = window.admissions.map((admission) => {
    if (tooMuch <= 0 || admission.at > at || leavesAt(window, admission) <= at) return admission;
    tooMuch -= admission.amount;
    return { ...admission, left: at };
  });
  return { ...window, admissions };
}

/** Answers may overtake each other: the order is that of their arrival, which a caller need not keep. */
function insert<T extends { readonly at: number }>(all: readonly T[], one: T): readonly T[] {
  const last = all.at(-1);
  if (last === undefined || last.at <= one.at) return [...all, one];
  const index = all.findLastIndex((other) => other.at <= one.at) + 1;
  return [...all.slice(0, index), one, ...all.slice(index)];
}

/** Forgets what can be seen neither now nor in the usage of the past window, and keeps the lists bounded. */
export function prune(window: LimitWindow, now: number): LimitWindow {
  const kept = window.admissions.filter(({ at }) => at > now - 2 * window.windowMs);
  const denials = window.denials.filter((at) => at > now - window.windowMs).slice(-MAX_DENIALS);
  return { ...window, admissions: kept.length > MAX_ADMISSIONS ? joinNeighbours(kept) : kept, denials };
}

/** Joins admissions two by two at the later one's moment: the usage is never told too low, and nothing leaves early. */
function joinNeighbours(admissions: readonly Admission[]): readonly Admission[] {
  const joined: Admission[] = [];
  for (let index = 0; index < admissions.length; index += 2) {
    const [first, second] = [admissions[index], admissions[index + 1]];
    if (first === undefined) break;
    if (second === undefined) joined.push(first);
    else joined.push({ ...second, amount: first.amount + second.amount });
  }
  return joined;
}

/** When `admission` leaves. */
export function leavesAt(window: LimitWindow, admission: Admission): number {
  return Math.min(admission.at + window.windowMs, admission.left ?? Infinity);
}

/** The admissions in the window at `now`, the next to leave first. */
export function admissionsAt(window: LimitWindow, now: number): readonly Admission[] {
  return window.admissions.filter((one) => one.at <= now && leavesAt(window, one) > now);
}

/** What this page's admissions use at `now`. */
export function usageAt(window: LimitWindow, now: number): number {
  return admissionsAt(window, now).reduce((sum, { amount }) => sum + amount, 0);
}

export function nextToLeave(window: LimitWindow, now: number): Admission | null {
  return admissionsAt(window, now)[0] ?? null;
}

/** What others used when the server told the usage last: whatever this page did not admit. */
export function usageOfOthers(window: LimitWindow): number {
  if (window.told === null) return 0;
  return Math.max(0, window.told.count - usageAt(window, window.told.at));
}

export interface Step {
  readonly at: number;
  /** The usage from `at` on. */
  readonly usage: number;
}

/**
 * This page's usage over time: each admission lifts it, and one window later lowers it by as much. It goes on into
 * the future, as it will be if nothing more is admitted.
 */
export function usageSteps(window: LimitWindow): readonly Step[] {
  const changes = window.admissions.flatMap((one) => [
    { at: one.at, by: one.amount },
    { at: leavesAt(window, one), by: -one.amount },
  ]);
  // What leaves at a moment is gone before what comes at it.
  changes.sort((a, b) => a.at - b.at || a.by - b.by);
  const steps: Step[] = [];
  let usage = 0;
  for (const { at, by } of changes) {
    usage += by;
    if (steps.at(-1)?.at === at) steps.pop();
    steps.push({ at, usage });
  }
  return steps;
}

/** Whether an admission leaves at one moment; a counter's fades out with the windows instead (R2). */
export function isExact(window: LimitWindow): boolean {
  return window.algorithm === 'sliding_window_log';
}
