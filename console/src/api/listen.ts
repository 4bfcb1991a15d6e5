/** Listens to the stream of decisions for as long as the page wants, whatever happens to one connection. */
import { readEvents, type EventFilter, type LiveEvent } from './events';
import { OfflineError, ProblemError } from './problem';

export type StreamState =
  | { readonly kind: 'connecting' }
  | { readonly kind: 'open' }
  /** The server had to skip decisions, because this page or the network was too slow. */
  | { readonly kind: 'lagging'; readonly skipped: number }
  /** `retryAt` is in milliseconds of `performance.now()`; null where asking again would change nothing. */
  | { readonly kind: 'broken'; readonly error: unknown; readonly retryAt: number | null };

const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 30_000;

/** How long to wait after `failures` in a row, spread by `random` in 0..1 so that pages do not come back together. */
export function pauseMs(failures: number, random: number): number {
  const longest = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.max(0, failures - 1));
  return longest * (0.75 + 0.25 * random);
}

/** Whether the same question may be answered otherwise later. A fault of this page's own is not mended by waiting. */
export function mayRetry(error: unknown): boolean {
  if (error instanceof ProblemError) return error.status >= 500 || error.status === 429;
  return error instanceof OfflineError;
}

export interface Listener {
  onState: (state: StreamState) => void;
  onEvents: (events: readonly LiveEvent[]) => void;
}

/** Resolves after `ms`, when the network is back, or when `signal` is told. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const ended = new AbortController();
    const end = (): void => {
      window.clearTimeout(timer);
      ended.abort();
      resolve();
    };
    const timer = window.setTimeout(end, ms);
    window.addEventListener('online', end, { signal: ended.signal });
    signal.addEventListener('abort', end, { signal: ended.signal });
    if (signal.aborted) end();
  });
}

/** Runs until `signal` ends it, or a refusal that waiting cannot change. */
export async function keepListening(
  filter: EventFilter,
  { onState, onEvents }: Listener,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0;
  const isOver = (): boolean => signal.aborted;
  while (!isOver()) {
    let isOpen = false;
    onState({ kind: 'connecting' });
    const hear = (events: readonly LiveEvent[]): void => {
      if (isOver()) return;
      if (!isOpen) {
        isOpen = true;
        failures = 0;
        onState({ kind: 'open' });
      }
      onEvents(events);
    };
    const error: unknown = await readEvents(filter, hear, signal).catch((thrown: unknown) => thrown);
    if (isOver()) return;
    failures += 1;
    if (!mayRetry(error)) {
      onState({ kind: 'broken', error, retryAt: null });
      return;
    }
    const asked = error instanceof ProblemError ? (error.retryAfterMs ?? 0) : 0;
    const waitMs = Math.max(asked, pauseMs(failures, Math.random()));
    onState({ kind: 'broken', error, retryAt: performance.now() + waitMs });
    await pause(waitMs, signal);
  }
}
