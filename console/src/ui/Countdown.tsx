/** Counts down to a moment, and then says what holds from then on. */
import { useEffect, useState } from 'react';

import { formatDuration, useNow } from './time';

export interface CountdownProps {
  /** In milliseconds of `performance.now()`. */
  deadline: number;
  /** What is said once it has passed. */
  done: string;
}

export function Countdown({ deadline, done }: CountdownProps): React.JSX.Element {
  const [passed, setPassed] = useState<number | null>(null);
  const isOver = passed === deadline;
  const now = useNow(!isOver);
  useEffect(() => {
    const timer = window.setTimeout(() => setPassed(deadline), Math.max(0, deadline - performance.now()));
    return () => window.clearTimeout(timer);
  }, [deadline]);
  // A moment that has passed is not waited for once more, so the words change once and are announced once.
  if (isOver) return <span role="status">{done}</span>;
  return <span role="timer">{formatDuration(Math.max(0, deadline - now))}</span>;
}
