/** The traffic, read once a second while the page is seen. */
import { useQuery } from '@tanstack/react-query';
import { useRef } from 'react';

import { readTraffic, withSample, type Sample } from './traffic';

const EVERY_MS = 1_000;

export interface Traffic {
  /** Undefined until the server has answered. The last one is the latest. */
  samples: readonly Sample[] | undefined;
  error: Error | null;
  retry: () => void;
}

export function useTraffic(): Traffic {
  const kept = useRef<readonly Sample[]>([]);
  const { data, error, refetch } = useQuery({
    queryKey: ['traffic'],
    queryFn: async ({ signal }) => {
      const next = await readTraffic(signal);
      kept.current = withSample(kept.current, next);
      return kept.current;
    },
    refetchInterval: EVERY_MS,
    retry: false,
    // Rates of a page that was left and opened again would be of the time in between.
    gcTime: 0,
  });
  return { samples: data, error, retry: () => void refetch() };
}
