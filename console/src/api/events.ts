/** The stream of decisions and changes of leases at `/admin/events`: what it tells, and one connection to it. */
import { createParser, type EventSourceMessage } from 'eventsource-parser';

import { apiUrl, send } from './client';
import { OfflineError } from './problem';

/** The attributes of a check by name, its own and those that the catalog adds; what it lacks is left out or null. */
export type Subject = Readonly<Record<string, string | null | undefined>>;

export interface DecisionEvent {
  /** Milliseconds since 1970, by the server's clock. */
  at: number;
  allowed: boolean;
  reason: string | null;
  /** The policy that decided, and its limit; null where no limit was met. */
  policyId: string | null;
  scope: string | null;
  unit: string | null;
  limit: number | null;
  count: number | null;
  /** What the check needed of the limit, and what was left of it when the decision was made. */
  needed: number | null;
  remaining: number | null;
  retryAfterMs: number | null;
  /** Whether it was taken without the store. */
  degraded: boolean;
  /** How many decisions this one stands for: above 1,000 a second the server tells a sample. */
  weight: number;
  subject: Subject;
  /** The whole cost of the check, by unit. */
  cost: Readonly<Record<string, number>>;
}

/** A lease that was extended, settled or released, or that has expired. */
export interface LeaseChange {
  /** Milliseconds since 1970, by the server's clock. */
  at: number;
  /** As in the metric `tollgate_lease_events_total`. */
  event: string;
  was: string;
  state: string;
  /** How many changes this one stands for: above 1,000 a second the server tells a sample. */
  weight: number;
  subject: Subject;
  limits: readonly {
    policyId: string;
    unit: string;
    chargedBefore: number;
    charged: number;
    /** By how much the usage of the limit is above it; null where nobody looked. */
    debt: number | null;
  }[];
}

export interface Tally {
  allowed: number;
  denied: number;
}

export interface Percentiles {
  p50: number;
  p95: number;
  p99: number;
}

export type PartStatus = 'ok' | 'degraded';

/** What the server has counted since it started; told once a second. */
export interface StatsEvent extends Tally {
  at: number;
  degraded: number;
  policies: Readonly<Record<string, Tally>>;
  /** Of the last second; null where nothing was decided in it. */
  latencyMicros: Percentiles | null;
  /** Keys held; null where the store cannot say. */
  keys: number | null;
  store: PartStatus;
  catalog: PartStatus;
  policiesVersion: number;
  policyCount: number;
}

export type LiveEvent =
  | { readonly kind: 'decision'; readonly decision: DecisionEvent }
  | { readonly kind: 'lease'; readonly change: LeaseChange }
  | { readonly kind: 'stats'; readonly stats: StatsEvent }
  | { readonly kind: 'lagged'; readonly skipped: number };

/** Which decisions and leases are told. An empty text is any. */
export interface EventFilter {
  readonly allowed: '' | 'true' | 'false';
  readonly policy: string;
  readonly user: string;
  readonly model: string;
  readonly tenant: string;
}

/** The event that `message` holds; null for a kind that this console does not know. */
export function eventOf(message: Pick<EventSourceMessage, 'event' | 'data'>): LiveEvent | null {
  switch (message.event) {
    case 'decision':
      return { kind: 'decision', decision: JSON.parse(message.data) as DecisionEvent };
    case 'lease':
      return { kind: 'lease', change: JSON.parse(message.data) as LeaseChange };
    case 'stats':
      return { kind: 'stats', stats: JSON.parse(message.data) as StatsEvent };
    case 'lagged':
      return { kind: 'lagged', skipped: (JSON.parse(message.data) as { skipped: number }).skipped };
    default:
      return null;
  }
}

/** The server tells its figures every second: a connection that is silent for so long is dead. */
export const MAX_SILENCE_MS = 10_000;

function requestOf(filter: EventFilter, signal: AbortSignal): Request {
  const url = new URL(apiUrl('/admin/events'));
  for (const [name, value] of Object.entries<string>({ ...filter })) {
    if (value !== '') url.searchParams.set(name, value);
  }
  return new Request(url, { headers: { accept: 'text/event-stream' }, cache: 'no-store', signal });
}

async function readAll(response: Response, onChunk: (text: string) => void): Promise<void> {
  if (response.body === null) return;
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    onChunk(decoder.decode(value, { stream: true }));
  }
}

/**
 * Reads one connection until it ends, which it always does by throwing: a `ProblemError` where the server refuses, an
 * `OfflineError` where it goes away or falls silent, the signal's reason where the caller has enough. What arrives
 * together is handed on together.
 */
export async function readEvents(
  filter: EventFilter,
  onEvents: (events: readonly LiveEvent[]) => void,
  signal: AbortSignal,
): Promise<never> {
  const silence = new AbortController();
  const watch = (): number => window.setTimeout(() => silence.abort(), MAX_SILENCE_MS);
  let timer = watch();
  let arrived: LiveEvent[] = [];
  const parser = createParser({
    onEvent: (message) => {
      const event = eventOf(message);
      if (event !== null) arrived.push(event);
    },
  });
  const onChunk = (text: string): void => {
    window.clearTimeout(timer);
    timer = watch();
    parser.feed(text);
    const events = arrived;
    arrived = [];
    if (events.length > 0) onEvents(events);
  };
  try {
    const response = await send(requestOf(filter, AbortSignal.any([signal, silence.signal])));
    await readAll(response, onChunk);
  } catch (error) {
    // A body that breaks off is a `TypeError`; what the page throws itself is passed on.
    const isGone = silence.signal.aborted || (error instanceof TypeError && !signal.aborted);
    throw isGone ? new OfflineError(error) : error;
  } finally {
    window.clearTimeout(timer);
    silence.abort();
  }
  throw new OfflineError('the server ended the stream');
}
