/** A text once nobody has typed at it for a moment. */
import { useEffect, useState } from 'react';

const PAUSE_MS = 300;

export function usePaused(text: string): string {
  const [paused, setPaused] = useState(text);
  useEffect(() => {
    const timer = window.setTimeout(() => setPaused(text), PAUSE_MS);
    return () => window.clearTimeout(timer);
  }, [text]);
  return paused;
}
