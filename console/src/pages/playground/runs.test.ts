import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { due, keepSending, MAX_IN_FLIGHT, sendMany } from './runs';

describe('what is due', () => {
  it('follows the pace', () => {
    const cases: [Parameters<typeof due>, number][] = [
      [[0, 5, 0, 0], 1],
      [[199, 5, 1, 0], 0],
      [[200, 5, 1, 0], 1],
      [[1_000, 5, 1, 0], 5],
      [[60_000, 5, 1, 0], 5],
      [[1_000, 200, 0, 0], MAX_IN_FLIGHT],
      [[1_000, 200, 0, MAX_IN_FLIGHT], 0],
    ];
    for (const [given, expected] of cases) expect([given, due(...given)]).toEqual([given, expected]);
  });
});

describe('a number of checks', () => {
  it('is made exactly, never too many at a time', async () => {
    let [made, inFlight, most] = [0, 0, 0];
    const send = async (): Promise<void> => {
      inFlight += 1;
      most = Math.max(most, inFlight);
      await Promise.resolve();
      inFlight -= 1;
      made += 1;
    };
    await sendMany(100, send, new AbortController().signal);
    expect(made).toBe(100);
    expect(most).toBe(MAX_IN_FLIGHT);
  });

  it('ends at an error', async () => {
    const send = vi.fn().mockRejectedValue(new Error('no'));
    await expect(sendMany(1_000, send, new AbortController().signal)).rejects.toThrow('no');
    expect(send.mock.calls.length).toBeLessThanOrEqual(MAX_IN_FLIGHT);
  });

  it('ends when it is stopped', async () => {
    const controller = new AbortController();
    const send = vi.fn(() => {
      controller.abort();
      return Promise.resolve();
    });
    await expect(sendMany(1_000, send, controller.signal)).rejects.toThrow();
    expect(send.mock.calls.length).toBeLessThanOrEqual(MAX_IN_FLIGHT);
  });
});

describe('a steady run', () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it('keeps its pace until it is stopped', async () => {
    const controller = new AbortController();
    const send = vi.fn(() => Promise.resolve());
    const run = keepSending(50, send, controller.signal).catch(() => undefined);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(send).toHaveBeenCalledTimes(101);
    controller.abort();
    await run;
    await vi.advanceTimersByTimeAsync(2_000);
    expect(send).toHaveBeenCalledTimes(101);
  });

  it('does not make up for a time in which the server was slow', async () => {
    const waiting: (() => void)[] = [];
    const send = vi.fn(() => new Promise<void>((resolve) => waiting.push(resolve)));
    const controller = new AbortController();
    const run = keepSending(20, send, controller.signal).catch(() => undefined);
    await vi.advanceTimersByTimeAsync(30_000);
    expect(send).toHaveBeenCalledTimes(MAX_IN_FLIGHT);
    for (const resolve of waiting.splice(0)) resolve();
    await vi.advanceTimersByTimeAsync(20);
    expect(send.mock.calls.length).toBeLessThanOrEqual(MAX_IN_FLIGHT + 20);
    controller.abort();
    await run;
  });

  it('ends at an error', async () => {
    const run = keepSending(20, () => Promise.reject(new Error('gone')), new AbortController().signal);
    await expect(run).rejects.toThrow('gone');
  });
});
