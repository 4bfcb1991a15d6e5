/**
 * The last quarter of an hour in samples, made from the counters that the server tells every second.
 *
 * Counters are compared only within one connection: the next one may be to a server that was restarted, or to another
 * node, whose counters say nothing about this one's rates.
 */
import type { PartStatus, Percentiles, StatsEvent, Tally } from '../../api/events';

export const SPAN_MS = 15 * 60_000;
/** Between samples that are further apart, a line is broken off rather than drawn through what nobody saw. */
export const MAX_GAP_MS = 5_000;
/** Rates over less than this would be noise. */
const LEAST_STEP_MS = 200;

export interface Rates {
  readonly allowed: number;
  readonly denied: number;
  /** Taken without the store. */
  readonly degraded: number;
  /** Decisions of each policy that decided any. */
  readonly policies: ReadonlyMap<string, number>;
}

export interface Sample {
  readonly at: number;
  /** A second; null where they are not known, such as right after a restart. */
  readonly rates: Rates | null;
  readonly latencyMicros: Percentiles | null;
  readonly keys: number | null;
  /** Null in a gap, when the server was not heard. */
  readonly parts: { readonly store: PartStatus; readonly catalog: PartStatus } | null;
}

function sum({ allowed, denied }: Tally): number {
  return allowed + denied;
}

/** The rates between two tellings; null where the counters began anew or time did not go on. */
export function ratesBetween(before: StatsEvent, after: StatsEvent): Rates | null {
  const seconds = (after.at - before.at) / 1_000;
  const isReset =
    after.allowed < before.allowed || after.denied < before.denied || after.degraded < before.degraded;
  if (isReset || seconds * 1_000 < LEAST_STEP_MS) return null;
  const policies = new Map<string, number>();
  for (const [id, tally] of Object.entries(after.policies)) {
    // A policy may be named like a property that every object has.
    const earlier = Object.hasOwn(before.policies, id) ? before.policies[id] : undefined;
    const change = sum(tally) - (earlier === undefined ? 0 : sum(earlier));
    // A policy that was removed and made again counts from 0.
    const decided = change < 0 ? sum(tally) : change;
    if (decided > 0) policies.set(id, decided / seconds);
  }
  return {
    allowed: (after.allowed - before.allowed) / seconds,
    denied: (after.denied - before.denied) / seconds,
    degraded: (after.degraded - before.degraded) / seconds,
    policies,
  };
}

export interface History {
  /** By time; none is older than the span. */
  readonly samples: readonly Sample[];
  /** What the next telling is compared with; null at the start of a connection. */
  readonly last: StatsEvent | null;
}

export const EMPTY_HISTORY: History = { samples: [], last: null };

/** A new connection: what it tells first is compared with nothing. */
export function reconnected(history: History): History {
  return { ...history, last: null };
}

function gapAfter(at: number): Sample {
  return { at: at + 1, rates: null, latencyMicros: null, keys: null, parts: null };
}

/** `history` and what was told next. */
export function told(history: History, stats: StatsEvent): History {
  const { last } = history;
  const newest = history.samples.at(-1);
  // The server's clock stepped back: what it says now cannot be put behind what it said before.
  const isBack = newest !== undefined && stats.at <= newest.at;
  const kept = history.samples.filter(
    ({ at }) => at > stats.at - SPAN_MS && (!isBack || at < stats.at - MAX_GAP_MS),
  );
  const previous = kept.at(-1);
  if (previous !== undefined && stats.at - previous.at > MAX_GAP_MS) kept.push(gapAfter(previous.at));
  kept.push({
    at: stats.at,
    rates: last === null ? null : ratesBetween(last, stats),
    latencyMicros: stats.latencyMicros,
    keys: stats.keys,
    parts: { store: stats.store, catalog: stats.catalog },
  });
  return { samples: kept, last: stats };
}
