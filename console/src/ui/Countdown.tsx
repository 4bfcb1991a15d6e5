/** Counts down to a moment, and then says what holds from then on. */
import { useEffect, useState } from 'react';

import { formatDuration, useNow } from './time';

export interface CountdownProps {
  /** In milliseconds of `performance.now()`. */
  deadline: number;
  /** What is said before the time that is left. */
  lead?: string;
  /** What is said once it has passed, in place of both. */
  done: string;
}

/** How long the words for a wait of `ms` stay the same, nearly: many countdowns on a page are not drawn 60 times a second. */
function stepOf(ms: number): number {
  if (ms > 60_000) return 250;
  return ms > 1_000 ? 50 : 0;
}

export function Countdown({ deadline, lead = '', done }: CountdownProps): React.JSX.Element {
  const [passed, setPassed] = useState<number | null>(null);
  const isOver = passed === deadline;
  const [stepMs, setStepMs] = useState(0);
  const now = useNow(!isOver, stepMs);
  const left = Math.max(0, deadline - now);
  if (stepMs !== stepOf(left)) setStepMs(stepOf(left));
  useEffect(() => {
    const timer = window.setTimeout(() => setPassed(deadline), Math.max(0, deadline - performance.now()));
    return () => window.clearTimeout(timer);
  }, [deadline]);
  // A moment that has passed is not waited for once more, so the words change once and are announced once.
  if (isOver) return <span role="status">{done}</span>;
  return (
    <span role="timer">
      {lead}
      {formatDuration(left)}
    </span>
  );
}
