/** What passes through the gateway, as the server counts it, and what is said of it. */
import { adminCall } from '../../api/admin';
import type { components } from '../../api/schema';
import type { Tone } from '../../ui/StatusDot';

export type GatewayTraffic = components['schemas']['GatewayTraffic'];
export type QueueTraffic = GatewayTraffic['queues'][number];
export type ModelCounts = GatewayTraffic['models'][number];
export type UpstreamTraffic = GatewayTraffic['upstreams'][number];

/** What the server said, and when. */
export interface Sample {
  atMs: number;
  /** Null if the server has no gateway. */
  gateway: GatewayTraffic | null;
}

export async function readTraffic(signal: AbortSignal): Promise<Sample> {
  const { gateway } = await adminCall<components['schemas']['Traffic']>('/admin/traffic', { signal });
  return { atMs: performance.now(), gateway: gateway ?? null };
}

/** As many as are needed for a rate over five seconds, read once a second. */
const KEPT_SAMPLES = 6;

/** `samples` with `next`. After a restart of the server, which counts from 0 again, only `next` is left. */
export function withSample(samples: readonly Sample[], next: Sample): readonly Sample[] {
  const last = samples.at(-1);
  if (last === undefined) return [next];
  const isRestarted = (next.gateway?.models ?? []).some(
    ({ model, outputSoFar }) => outputSoFar < (outputOf(last, model) ?? 0),
  );
  return isRestarted ? [next] : [...samples, next].slice(-KEPT_SAMPLES);
}

function outputOf({ gateway }: Sample, model: string): number | undefined {
  return gateway?.models.find((one) => one.model === model)?.outputSoFar;
}

/** The tokens of answers a second, over the samples that are kept; null with fewer than two. */
export function tokensASecond(samples: readonly Sample[], model: string): number | null {
  const [first, last] = [samples[0], samples.at(-1)];
  if (first === undefined || last === undefined || last.atMs <= first.atMs) return null;
  const [from, to] = [outputOf(first, model), outputOf(last, model)];
  if (from === undefined || to === undefined) return null;
  return ((to - from) * 1_000) / (last.atMs - first.atMs);
}

export function sumOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

interface State {
  tone: Tone;
  words: string;
}

const STATES: Readonly<Record<string, State | undefined>> = {
  available: { tone: 'ok', words: 'Available' },
  open: { tone: 'bad', words: 'Fails, gets no requests' },
  half_open: { tone: 'warn', words: 'Failed, is tried again' },
  limited: { tone: 'warn', words: 'Limited by its provider' },
};

export function stateOf({ state }: UpstreamTraffic): State {
  return STATES[state] ?? { tone: 'neutral', words: state };
}

const DENIALS: Readonly<Record<string, string | undefined>> = {
  limited: 'A limit is used up',
  queue_full: 'The queue is full, or the wait would be too long',
  provider_limited: 'The provider of the upstream limits requests',
  no_upstream: 'No upstream is available',
  upstream_timeout: 'The upstream did not answer in time',
  unauthorized: 'No valid API key',
  invalid: 'The request is invalid',
  unavailable: 'Limits or keys cannot be checked, or memory is full',
};

/** Why requests were denied, the most frequent reason first. */
export function denialsOf({ denials }: GatewayTraffic): readonly { words: string; count: number }[] {
  const all = Object.entries(denials).map(([reason, count]) => ({ words: DENIALS[reason] ?? reason, count }));
  return all.sort((one, other) => other.count - one.count);
}
