import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { LiveEvent } from '../../api/events';
import { DRAW_EVERY_MS, LiveFeed, MAX_LEASE_CHANGES } from './feed';
import { NO_FILTER } from './filter';
import { decisionOf, leaseChangeOf, statsOf } from './fixtures';

const ALICE: LiveEvent = { kind: 'decision', decision: decisionOf() };
const BOB: LiveEvent = { kind: 'decision', decision: decisionOf({ subject: { user: 'bob' } }) };

function statsAt(at: number, allowed: number): LiveEvent {
  return { kind: 'stats', stats: statsOf({ at, allowed, policies: { default: { allowed, denied: 0 } } }) };
}

function usersOf(feed: LiveFeed): unknown[] {
  return feed.decisions.get().newestFirst.map(({ decision }) => decision.subject.user);
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('the feed', () => {
  it('shows what came in together, a few times a second', () => {
    const feed = new LiveFeed();
    feed.begin('token', NO_FILTER);
    const changed = vi.fn();
    feed.decisions.subscribe(changed);
    for (let ms = 0; ms < 1_000; ms += 1) {
      feed.onEvents([ALICE]);
      vi.advanceTimersByTime(1);
    }
    vi.advanceTimersByTime(2 * DRAW_EVERY_MS);
    expect(changed.mock.calls.length).toBeGreaterThan(1);
    expect(changed.mock.calls.length).toBeLessThanOrEqual(1_000 / DRAW_EVERY_MS + 1);
    expect(feed.decisions.get()).toMatchObject({ total: 1_000, newestFirst: { length: 1_000 } });
  });

  it('keeps what it heard where the filter gets narrower, and begins anew where it does not', () => {
    const feed = new LiveFeed();
    feed.begin('token', NO_FILTER);
    feed.onEvents([ALICE, BOB]);
    feed.begin('token', { ...NO_FILTER, user: 'bob' });
    expect(usersOf(feed)).toEqual(['bob']);
    feed.begin('token', NO_FILTER);
    expect(usersOf(feed)).toEqual([]);
  });

  it('keeps the last changes of leases that meet the filter', () => {
    const feed = new LiveFeed();
    const change = (user: string): LiveEvent => ({
      kind: 'lease',
      change: leaseChangeOf({ subject: { user } }),
    });
    const shown = (): unknown[] => feed.leases.get().map((one) => one.change.subject.user);
    feed.begin('token', NO_FILTER);
    feed.onEvents([change('bob'), ...Array.from({ length: MAX_LEASE_CHANGES }, () => change('alice'))]);
    feed.onEvents([change('carol')]);
    vi.advanceTimersByTime(2 * DRAW_EVERY_MS);
    expect(shown()).toHaveLength(MAX_LEASE_CHANGES);
    expect(shown().slice(0, 2)).toEqual(['carol', 'alice']);
    feed.begin('token', { ...NO_FILTER, user: 'carol' });
    expect(shown()).toEqual(['carol']);
    feed.begin('token', { ...NO_FILTER, user: 'carol', allowed: 'true' });
    expect(shown()).toEqual([]);
    feed.onEvents([change('alice')]);
    feed.begin('another', NO_FILTER);
    expect(shown()).toEqual([]);
  });

  it('shows nothing to one who signs in that another one was told', () => {
    const feed = new LiveFeed();
    feed.begin('token', NO_FILTER);
    feed.onEvents([ALICE, statsAt(1_000, 1)]);
    feed.begin('another', NO_FILTER);
    expect(usersOf(feed)).toEqual([]);
    expect(feed.figures.get().samples).toEqual([]);
  });

  it('goes on after a restart without a rate across it', () => {
    const feed = new LiveFeed();
    feed.begin('token', NO_FILTER);
    feed.onState({ kind: 'connecting' });
    feed.onEvents([statsAt(1_000, 500), statsAt(2_000, 510)]);
    feed.onState({ kind: 'connecting' });
    feed.onEvents([statsAt(5_000, 700), statsAt(6_000, 704)]);
    const { samples, places } = feed.figures.get();
    expect(samples.map(({ rates }) => rates?.allowed ?? null)).toEqual([null, 10, null, 4]);
    expect(places).toEqual(['default']);
  });

  it('says that it lags, adds up what was skipped, and stops saying so', () => {
    const feed = new LiveFeed();
    feed.onState({ kind: 'open' });
    feed.onEvents([
      { kind: 'lagged', skipped: 10 },
      { kind: 'lagged', skipped: 7 },
    ]);
    expect(feed.state.get()).toEqual({ kind: 'lagging', skipped: 17 });
    feed.onEvents([statsAt(1_000, 1)]);
    expect(feed.state.get().kind).toBe('lagging');
    vi.advanceTimersByTime(6_000);
    feed.onEvents([statsAt(7_000, 1)]);
    expect(feed.state.get()).toEqual({ kind: 'open' });
  });
});
