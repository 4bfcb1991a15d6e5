/** Who is signed in, by the name and the role of the token. */
import { useQuery } from '@tanstack/react-query';

import { client } from './client';
import type { components } from './schema';
import { useSession } from './token';

export type SessionInfo = components['schemas']['Session'];

/** Null while nobody is signed in, or the server has not said yet who is. */
export function useSessionInfo(): SessionInfo | null {
  const { token } = useSession();
  const { data } = useQuery({
    queryKey: ['session', 'info', token],
    queryFn: async ({ signal }) => (await client.GET('/admin/session', { signal })).data ?? null,
    enabled: token !== null,
    staleTime: Infinity,
    retry: false,
  });
  return token === null ? null : (data ?? null);
}
