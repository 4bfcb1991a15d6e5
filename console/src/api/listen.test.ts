import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { MAX_SILENCE_MS, type EventFilter, type LiveEvent } from './events';
import { keepListening, mayRetry, pauseMs, type StreamState } from './listen';
import { OfflineError, ProblemError } from './problem';

const FILTER: EventFilter = { allowed: 'false', policy: '', user: 'al ice', model: '', tenant: '' };
const STATS = 'event: stats\ndata: {"at":1,"allowed":2,"denied":3}\n\n';
const encoder = new TextEncoder();

/** A body that sends `chunks` and then ends, breaks off, or goes on in silence. */
function answer(chunks: readonly string[], end: 'ends' | 'breaks' | 'stays'): (request: Request) => Response {
  return (request) => {
    const waiting = [...chunks];
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        request.signal.addEventListener('abort', () => controller.error(request.signal.reason));
      },
      pull(controller) {
        const chunk = waiting.shift();
        if (chunk !== undefined) controller.enqueue(encoder.encode(chunk));
        else if (end === 'ends') controller.close();
        else if (end === 'breaks') controller.error(new TypeError('network error'));
      },
    });
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
  };
}

function refusal(status: number, headers: Record<string, string> = {}): (request: Request) => Response {
  return () => new Response(JSON.stringify({ title: 'No', detail: 'No.' }), { status, headers });
}

interface Heard {
  states: StreamState[];
  events: LiveEvent[];
  asked: string[];
  stop: () => void;
}

/** Listens to a server that answers one call after the other, the last one for ever. */
function listenTo(...answers: ((request: Request) => Response)[]): Heard {
  const controller = new AbortController();
  const heard: Heard = {
    states: [],
    events: [],
    asked: [],
    stop: () => controller.abort(),
  };
  vi.stubGlobal('fetch', (request: Request) => {
    heard.asked.push(request.url);
    const next = answers.length > 1 ? answers.shift() : answers[0];
    return next === undefined ? Promise.reject(new TypeError('refused')) : Promise.resolve(next(request));
  });
  void keepListening(
    FILTER,
    { onState: (state) => heard.states.push(state), onEvents: (events) => heard.events.push(...events) },
    controller.signal,
  );
  return heard;
}

function kinds({ states }: Heard): string[] {
  return states.map(({ kind }) => kind);
}

const settle = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe('listening', () => {
  it('sends the filter, is open once something is told, and hands on what it knows', async () => {
    const lagged = 'event: lagged\ndata: {"skipped":17}\n\nevent: novelty\ndata: {}\n\n';
    const heard = listenTo(answer([STATS.slice(0, 20), STATS.slice(20) + lagged], 'stays'));
    await settle();
    expect(heard.asked[0]).toContain('/admin/events?allowed=false&user=al+ice');
    expect(kinds(heard)).toEqual(['connecting', 'open']);
    expect(heard.events).toEqual([
      { kind: 'stats', stats: { at: 1, allowed: 2, denied: 3 } },
      { kind: 'lagged', skipped: 17 },
    ]);
    heard.stop();
  });

  it('comes back after a pause when the server ends or breaks off the stream', async () => {
    for (const end of ['ends', 'breaks'] as const) {
      const heard = listenTo(answer([STATS], end), answer([STATS], 'stays'));
      await settle();
      expect(kinds(heard)).toEqual(['connecting', 'open', 'broken']);
      expect(heard.states[2]).toMatchObject({ error: expect.any(OfflineError) as unknown });
      await vi.advanceTimersByTimeAsync(1_000);
      expect(kinds(heard)).toEqual(['connecting', 'open', 'broken', 'connecting', 'open']);
      heard.stop();
    }
  });

  it('takes a connection for dead that is silent', async () => {
    const heard = listenTo(answer([STATS], 'stays'));
    await vi.advanceTimersByTimeAsync(MAX_SILENCE_MS - 1);
    expect(kinds(heard)).toEqual(['connecting', 'open']);
    await vi.advanceTimersByTimeAsync(1);
    expect(kinds(heard)).toEqual(['connecting', 'open', 'broken']);
    heard.stop();
  });

  it('stops, and says nothing more, when the page has enough', async () => {
    const heard = listenTo(answer([STATS], 'stays'));
    await settle();
    heard.stop();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(kinds(heard)).toEqual(['connecting', 'open']);
    expect(heard.asked.length).toBe(1);
  });

  it('waits as long as the server asks where it has too many listeners', async () => {
    const heard = listenTo(refusal(503, { 'retry-after': '20' }), answer([STATS], 'stays'));
    await vi.advanceTimersByTimeAsync(19_999);
    expect(kinds(heard)).toEqual(['connecting', 'broken']);
    await vi.advanceTimersByTimeAsync(1);
    expect(kinds(heard)).toEqual(['connecting', 'broken', 'connecting', 'open']);
    heard.stop();
  });

  it('does not ask again what was refused for good', async () => {
    for (const status of [401, 403, 404, 422]) {
      const heard = listenTo(refusal(status));
      await vi.advanceTimersByTimeAsync(120_000);
      expect(heard.asked.length).toBe(1);
      expect(heard.states.at(-1)).toMatchObject({ kind: 'broken', retryAt: null });
    }
  });

  it('asks at once when the network is back', async () => {
    const heard = listenTo();
    await settle();
    window.dispatchEvent(new Event('online'));
    await settle();
    expect(heard.asked.length).toBe(2);
    heard.stop();
  });

  it('is broken for good by an event that is no JSON', async () => {
    const heard = listenTo(answer(['event: stats\ndata: {\n\n'], 'stays'));
    await settle();
    expect(heard.states.at(-1)).toMatchObject({ kind: 'broken', retryAt: null });
  });
});

describe('pauses', () => {
  it('grow to half a minute and are spread', () => {
    const longest = [1, 2, 3, 4, 5, 6, 60, 5_000].map((failures) => pauseMs(failures, 1));
    expect(longest).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
    expect(pauseMs(3, 0)).toBe(3_000);
  });

  it('are made where the answer may change', () => {
    const problem = (status: number): ProblemError =>
      new ProblemError({ status, type: '', title: '', detail: '', errors: [], retryAfterMs: null });
    const cases: [unknown, boolean][] = [
      [new OfflineError(null), true],
      [problem(503), true],
      [problem(500), true],
      [problem(429), true],
      [problem(401), false],
      [problem(403), false],
      [problem(422), false],
      [new SyntaxError('not JSON'), false],
    ];
    for (const [error, expected] of cases) expect(mayRetry(error)).toBe(expected);
  });
});
