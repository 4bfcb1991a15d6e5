/** What the server says about itself. */
import { useQuery } from '@tanstack/react-query';

import { apiUrl } from './client';
import { OfflineError, problemOf } from './problem';
import type { components } from './schema';

export type Readiness = components['schemas']['Readiness'];

const EVERY_MS = 5_000;
const DEADLINE_MS = 4_000;

async function fetchReadiness(signal: AbortSignal): Promise<Readiness> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]);
  let response: Response;
  try {
    response = await fetch(apiUrl('/readyz'), { signal: limited, cache: 'no-store' });
  } catch (error) {
    throw new OfflineError(error);
  }
  // A server that is about to end answers 503 with the same document.
  if (response.headers.get('content-type')?.startsWith('application/json') === true) {
    return (await response.json()) as Readiness;
  }
  throw await problemOf(response);
}

export interface Health {
  /** What the server said last; undefined until it has said anything. */
  readiness: Readiness | undefined;
  /** Whether it answered when it was asked last. */
  isOnline: boolean;
  /** Whether it did not. Before the first answer it is neither. */
  isOffline: boolean;
  /** Asks now; whether the server answers. */
  ask: () => Promise<boolean>;
}

/** The health of the server, asked every few seconds while the page is seen. */
export function useHealth(): Health {
  const { data, isSuccess, isError, errorUpdateCount, refetch } = useQuery({
    queryKey: ['readyz'],
    queryFn: ({ signal }) => fetchReadiness(signal),
    refetchInterval: EVERY_MS,
    retry: false,
    networkMode: 'always',
  });
  return {
    readiness: data,
    isOnline: isSuccess,
    // While a server that has never answered is asked again, the query is as if it were new.
    isOffline: isError || (!isSuccess && errorUpdateCount > 0),
    ask: async () => (await refetch()).isSuccess,
  };
}
