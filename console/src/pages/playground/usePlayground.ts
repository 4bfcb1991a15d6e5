/** The playground's state, and what acts on it: one check, many, or a steady stream of them. */
import { useCallback, useEffect, useRef, useState } from 'react';

import { client } from '../../api/client';
import type { Check } from '../check/check';
import { EMPTY, record, type Outcome, type Playground } from './record';
import { keepSending, MAX_HIDDEN_MS, sendMany } from './runs';

export type Run =
  | { readonly kind: 'one' }
  | { readonly kind: 'many'; readonly total: number }
  | { readonly kind: 'steady'; readonly perSecond: number };

/** Answers are shown together after so long, so that 200 a second do not draw the page 200 times. */
const SHOWN_EVERY_MS = 50;

export interface PlaygroundActions {
  state: Playground;
  /** What is under way. */
  run: Run | null;
  error: unknown;
  start: (run: Run, check: Check) => void;
  stop: () => void;
}

async function ask(check: Check, signal: AbortSignal): Promise<Outcome> {
  const sentAt = performance.now();
  const { data } = await client.POST('/rate-limit/check', { body: check, signal });
  if (data === undefined) throw new Error('The server answered without a decision');
  const arrivedAt = performance.now();
  return { check, decision: data, arrivedAt, tookMs: arrivedAt - sentAt };
}

/** Gathers outcomes and hands them on together. */
function useOutcomes(show: (outcomes: readonly Outcome[]) => void): (outcome: Outcome) => void {
  const waiting = useRef<Outcome[]>([]);
  const timer = useRef<number | undefined>(undefined);
  useEffect(() => () => window.clearTimeout(timer.current), []);
  return useCallback(
    (outcome: Outcome) => {
      waiting.current.push(outcome);
      timer.current ??= window.setTimeout(() => {
        timer.current = undefined;
        show(waiting.current.splice(0));
      }, SHOWN_EVERY_MS);
    },
    [show],
  );
}

/** Stops a steady run on a page that nobody has looked at for long. */
function useStopWhenHidden(isRunning: boolean, stop: () => void): void {
  useEffect(() => {
    if (!isRunning) return undefined;
    let timer: number | undefined;
    const watch = (): void => {
      window.clearTimeout(timer);
      if (document.hidden) timer = window.setTimeout(stop, MAX_HIDDEN_MS);
    };
    document.addEventListener('visibilitychange', watch);
    return () => {
      window.clearTimeout(timer);
      document.removeEventListener('visibilitychange', watch);
    };
  }, [isRunning, stop]);
}

export function usePlayground(): PlaygroundActions {
  const [state, setState] = useState(EMPTY);
  const [run, setRun] = useState<Run | null>(null);
  const [error, setError] = useState<unknown>(null);
  const controller = useRef<AbortController | null>(null);

  const show = useCallback((outcomes: readonly Outcome[]) => setState((now) => record(now, outcomes)), []);
  const push = useOutcomes(show);
  const stop = useCallback(() => {
    controller.current?.abort();
    controller.current = null;
    setRun(null);
  }, []);
  useEffect(() => () => controller.current?.abort(), []);
  useStopWhenHidden(run?.kind === 'steady', stop);

  const start = useCallback(
    (next: Run, check: Check) => {
      controller.current?.abort();
      const mine = new AbortController();
      controller.current = mine;
      const send = async (signal: AbortSignal): Promise<void> => push(await ask(check, signal));
      const finished = {
        one: () => send(mine.signal),
        many: () => sendMany(next.kind === 'many' ? next.total : 0, send, mine.signal),
        steady: () => keepSending(next.kind === 'steady' ? next.perSecond : 0, send, mine.signal),
      };
      const end = (problem: unknown): void => {
        // A run that was stopped, or that another one replaced, has nothing to say.
        if (controller.current !== mine) return;
        controller.current = null;
        // Others of this run may still be under way.
        mine.abort();
        setRun(null);
        setError(problem);
      };
      setRun(next);
      setError(null);
      finished[next.kind]().then(() => end(null), end);
    },
    [push],
  );
  return { state, run, error, start, stop };
}
