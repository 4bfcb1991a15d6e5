/** Listens while the page is shown. What was heard stays while other pages are, so that charts go on with a gap. */
import { useCallback, useEffect, useState, useSyncExternalStore } from 'react';

import type { EventFilter } from '../../api/events';
import { keepListening } from '../../api/listen';
import { useSession } from '../../api/token';
import { useReducedMotion } from '../../ui/motion';
import { DRAW_EVERY_MS, LiveFeed, type Observed } from './feed';

const REDUCED_MOTION_MS = 1_000;

const feed = new LiveFeed();

export function useObserved<Value>(observed: Observed<Value>): Value {
  return useSyncExternalStore(observed.subscribe, observed.get);
}

/** Listens to what meets `filter`, anew whenever that changes. `filter` stays the same object while it says the same. */
export function useLiveFeed(filter: EventFilter): { feed: LiveFeed; tryNow: () => void } {
  const { token } = useSession();
  const isReduced = useReducedMotion();
  useEffect(() => {
    feed.drawEveryMs = isReduced ? REDUCED_MOTION_MS : DRAW_EVERY_MS;
  }, [isReduced]);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (token === null) return undefined;
    const controller = new AbortController();
    feed.begin(token, filter);
    void keepListening(filter, feed, controller.signal);
    return () => controller.abort();
  }, [token, filter, attempt]);
  const tryNow = useCallback(() => setAttempt((before) => before + 1), []);
  return { feed, tryNow };
}
