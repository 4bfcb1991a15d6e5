/** What charts and tiles show, out of samples. Times are in milliseconds, rates per second. */
import type { Percentiles } from '../../api/events';
import type { Rates, Sample } from './history';

/** Policies with a line of their own. */
export const MAX_NAMED = 5;
/** How the server names what it counts of policies beyond the ones it names, and of checks that met no limit. */
const OTHERS = '(other)';
export const NO_POLICY = '(none)';

export type Values = (number | null)[];

export function valuesOf(samples: readonly Sample[], pick: (sample: Sample) => number | null): Values {
  return samples.map(pick);
}

export function rateValues(samples: readonly Sample[], name: 'allowed' | 'denied' | 'degraded'): Values {
  return valuesOf(samples, ({ rates }) => rates?.[name] ?? null);
}

/** In microseconds, at least 1: a logarithmic scale has no 0. */
export function latencyValues(samples: readonly Sample[], name: keyof Percentiles): Values {
  return valuesOf(samples, ({ latencyMicros }) =>
    latencyMicros === null ? null : Math.max(1, latencyMicros[name]),
  );
}

/** The policies that decided most in `samples`, the first the most. */
export function topPolicies(samples: readonly Sample[], most = MAX_NAMED): string[] {
  const totals = new Map<string, number>();
  for (const { rates } of samples) {
    for (const [id, rate] of rates?.policies ?? []) totals.set(id, (totals.get(id) ?? 0) + rate);
  }
  totals.delete(OTHERS);
  return [...totals]
    .sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
    .slice(0, most)
    .map(([id]) => id);
}

/** Gives each of `names` a place and leaves those that had one where they were, so that no line changes its colour. */
export function placesOf(before: readonly (string | null)[], names: readonly string[]): (string | null)[] {
  const wanted = new Set(names);
  const places = before.map((name) => (name !== null && wanted.has(name) ? name : null));
  for (const name of names) {
    if (places.includes(name)) continue;
    const free = places.indexOf(null);
    if (free < 0) places.push(name);
    else places[free] = name;
  }
  return places;
}

/** Of policy `id`; 0 where others decided and it did not. */
export function policyValues(samples: readonly Sample[], id: string): Values {
  return valuesOf(samples, ({ rates }) => (rates === null ? null : (rates.policies.get(id) ?? 0)));
}

function ratesBut(rates: Rates, named: ReadonlySet<string>): number {
  let rest = 0;
  for (const [id, rate] of rates.policies) if (!named.has(id)) rest += rate;
  return rest;
}

/** Of all policies but `named`, together. */
export function restValues(samples: readonly Sample[], named: ReadonlySet<string>): Values {
  return valuesOf(samples, ({ rates }) => (rates === null ? null : ratesBut(rates, named)));
}

/** Indexes of values without a neighbour: a line would not show them. */
export function lonely(values: ArrayLike<number | null | undefined>): number[] {
  const found: number[] = [];
  for (let index = 0; index < values.length; index += 1) {
    const isAlone = (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;
    if ((values[index] ?? null) !== null && isAlone) found.push(index);
  }
  return found;
}

export type Part = 'store' | 'catalog';

export interface DegradedPeriod {
  readonly from: number;
  /** When it was first seen well again, or seen last. */
  readonly to: number;
  readonly parts: readonly Part[];
}

function degradedParts({ parts }: Sample): Part[] {
  if (parts === null) return [];
  return (['store', 'catalog'] as const).filter((part) => parts[part] === 'degraded');
}

/** When the store or the catalog was degraded. */
export function degradedPeriods(samples: readonly Sample[]): DegradedPeriod[] {
  const periods: DegradedPeriod[] = [];
  for (const [index, sample] of samples.entries()) {
    const before = samples[index - 1];
    const parts = degradedParts(sample);
    const partsBefore = before === undefined ? [] : degradedParts(before);
    const last = periods.at(-1);
    // Nobody knows how long it went on into a gap.
    if (last !== undefined && partsBefore.length > 0 && sample.parts !== null) {
      periods[periods.length - 1] = { ...last, to: sample.at };
    }
    if (parts.length > 0 && parts.join() !== partsBefore.join()) {
      periods.push({ from: sample.at, to: sample.at, parts });
    }
  }
  return periods;
}

function mean(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((all, value) => all + value, 0) / values.length;
}

function most(values: readonly number[]): number | null {
  return values.length === 0 ? null : Math.max(...values);
}

export interface Minute {
  /** When it began. */
  readonly at: number;
  readonly allowed: number | null;
  readonly denied: number | null;
  /** The worst of its seconds. */
  readonly p99Micros: number | null;
  readonly keys: number | null;
  readonly degraded: readonly Part[];
}

/** The samples minute by minute, the newest first: the charts for those who read rather than look. */
export function minutesOf(samples: readonly Sample[]): Minute[] {
  const groups = new Map<number, Sample[]>();
  for (const sample of samples) {
    const at = Math.floor(sample.at / 60_000) * 60_000;
    const group = groups.get(at);
    if (group === undefined) groups.set(at, [sample]);
    else group.push(sample);
  }
  return [...groups].sort(([a], [b]) => b - a).map(([at, group]) => minuteOf(at, group));
}

function minuteOf(at: number, samples: readonly Sample[]): Minute {
  const rates = samples.map((sample) => sample.rates).filter((one) => one !== null);
  const latencies = samples.map((sample) => sample.latencyMicros).filter((one) => one !== null);
  return {
    at,
    allowed: mean(rates.map(({ allowed }) => allowed)),
    denied: mean(rates.map(({ denied }) => denied)),
    p99Micros: most(latencies.map(({ p99 }) => p99)),
    keys: samples.findLast(({ keys }) => keys !== null)?.keys ?? null,
    degraded: [...new Set(samples.flatMap(degradedParts))],
  };
}

/** The share of decisions that were denied in the last `spanMs`; null where nothing was decided. */
export function deniedShare(samples: readonly Sample[], spanMs: number): number | null {
  const newest = samples.at(-1)?.at ?? 0;
  let all = 0;
  let denied = 0;
  for (const { at, rates } of samples) {
    if (rates === null || at <= newest - spanMs) continue;
    all += rates.allowed + rates.denied;
    denied += rates.denied;
  }
  return all === 0 ? null : denied / all;
}
