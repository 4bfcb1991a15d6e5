/** Live leases, asked for again while the page is seen. */
import { keepPreviousData, useQuery } from '@tanstack/react-query';

import { useNow } from '../../ui/time';
import { listLiveLeases, type LeaseFilters, type LiveLeases } from './lease';

const EVERY_MS = 5_000;
const TICK_MS = 1_000;

export interface LiveLeasesState {
  data: LiveLeases | undefined;
  error: Error | null;
  /** Whether `data` is for other filters, until the server has answered for these. */
  isOld: boolean;
  isReading: boolean;
  /** How long ago the server answered, in whole seconds. */
  sinceMs: number;
  refetch: () => void;
}

export function useLiveLeases({ policy, tenant }: LeaseFilters): LiveLeasesState {
  const { data, error, isPlaceholderData, isFetching, refetch } = useQuery({
    queryKey: ['leases', policy, tenant],
    queryFn: async ({ signal }) => {
      const listed = await listLiveLeases({ policy, tenant }, signal);
      return { listed, arrivedAt: performance.now() };
    },
    refetchInterval: EVERY_MS,
    placeholderData: keepPreviousData,
    retry: false,
  });
  const now = useNow(data !== undefined, TICK_MS);
  const since = data === undefined ? 0 : Math.max(0, now - data.arrivedAt);
  return {
    data: data?.listed,
    error,
    isOld: isPlaceholderData,
    isReading: isFetching,
    sinceMs: Math.floor(since / TICK_MS) * TICK_MS,
    refetch: () => void refetch(),
  };
}
