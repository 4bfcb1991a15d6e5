/** Whether this session may change the catalog, and if not, why. */
import { useQuery } from '@tanstack/react-query';

import { adminResponse } from './admin';
import { ProblemError } from './problem';
import { useSession } from './token';

export interface Access {
  canWrite: boolean;
  /** Why it cannot, in words; null if it can, or nothing is known yet. */
  why: string | null;
}

const READ_TOKEN =
  'You have read-only access. To make changes, sign in with a token that has the role write.';
const READ_CATALOG =
  'The catalog is a file. To change it, edit the file: the server applies the change within seconds.';

/** Asks for a change that changes nothing: only whether it is refused tells who may write. */
async function askWhyNot(signal: AbortSignal): Promise<string | null> {
  try {
    await adminResponse('/admin/import', { method: 'POST', body: {}, signal });
    return null;
  } catch (error) {
    if (error instanceof ProblemError && error.status === 403) return READ_TOKEN;
    if (error instanceof ProblemError && error.status === 405) return READ_CATALOG;
    throw error;
  }
}

/** Until the server has said otherwise, everything is offered: it refuses for itself. */
export function useAccess(): Access {
  const { token } = useSession();
  const { data = null } = useQuery({
    queryKey: ['access', token],
    queryFn: ({ signal }) => askWhyNot(signal),
    staleTime: Infinity,
    retry: false,
  });
  return { canWrite: data === null, why: data };
}
