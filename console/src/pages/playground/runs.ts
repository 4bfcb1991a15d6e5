/** Many checks: a number of them at once, or so many a second. Each run ends at its first error. */

export const MAX_CHECKS = 1_000;
export const MAX_PER_SECOND = 200;
/** Checks of one run that may be under way at a time. */
export const MAX_IN_FLIGHT = 16;
/** A steady run ends when the page has not been seen for so long. */
export const MAX_HIDDEN_MS = 60_000;

const PACE_MS = 20;

/** Makes one check; rejects if there is no decision. */
export type Send = (signal: AbortSignal) => Promise<void>;

/**
 * How many checks to start now so that `perSecond` are started each second. What could not be started in the last
 * second is given up rather than sent all at once.
 */
export function due(elapsedMs: number, perSecond: number, started: number, inFlight: number): number {
  const planned = Math.floor((elapsedMs * perSecond) / 1_000) + 1;
  return Math.max(0, Math.min(planned - started, perSecond, MAX_IN_FLIGHT - inFlight));
}

/** Makes `total` checks, several at a time. */
export async function sendMany(total: number, send: Send, signal: AbortSignal): Promise<void> {
  let started = 0;
  const work = async (): Promise<void> => {
    while (started < total) {
      signal.throwIfAborted();
      started += 1;
      await send(signal);
    }
  };
  await Promise.all(Array.from({ length: Math.min(total, MAX_IN_FLIGHT) }, work));
}

/** Makes `perSecond` checks a second until `signal` ends it; rejects with the first error. */
export function keepSending(perSecond: number, send: Send, signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => {
    const startedAt = performance.now();
    let [started, inFlight, givenUp] = [0, 0, 0];
    const end = (error: unknown): void => {
      window.clearInterval(timer);
      reject(error instanceof Error ? error : new Error(String(error)));
    };
    const one = async (): Promise<void> => {
      inFlight += 1;
      try {
        await send(signal);
      } catch (error) {
        end(error);
      } finally {
        inFlight -= 1;
      }
    };
    const pace = (): void => {
      const elapsedMs = performance.now() - startedAt;
      const count = due(elapsedMs, perSecond, started + givenUp, inFlight);
      for (let index = 0; index < count; index += 1) void one();
      started += count;
      givenUp = Math.max(givenUp, Math.floor(((elapsedMs - 1_000) * perSecond) / 1_000) - started);
    };
    const timer = window.setInterval(pace, PACE_MS);
    signal.addEventListener('abort', () => end(signal.reason), { once: true });
    pace();
  });
}
