/** The server's explanation of a check, asked anew every few seconds, and the policies that it is about. */
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';

import { client } from '../../api/client';
import { ProblemError } from '../../api/problem';
import { listAllRecords } from '../../api/records';
import type { Check } from '../check/check';
import type { Policy } from '../policies/policy';
import type { Explanation } from './explanation';

/** Usage changes while one looks at it. */
const EVERY_MS = 2_000;
/** What is beyond is explained in the server's words alone. */
const MAX_POLICIES = 20_000;

export interface Explained {
  readonly check: Check;
  readonly explanation: Explanation;
  /** When it arrived, in milliseconds of `performance.now()`. */
  readonly arrivedAt: number;
}

async function explain(check: Check, signal: AbortSignal): Promise<Explained> {
  const { data } = await client.POST('/admin/explain', { body: check, signal });
  if (data === undefined) throw new Error('The server answered without an explanation');
  return { check, explanation: data, arrivedAt: performance.now() };
}

/** What the server refuses, it refuses however often it is asked; an absent server or store may come back. */
function mayPass(error: unknown): boolean {
  return !(error instanceof ProblemError) || error.status >= 500;
}

export interface ExplanationState {
  data: Explained | undefined;
  error: Error | null;
  /** Whether `data` is of another check, or from before an error. */
  isOld: boolean;
  refetch: () => void;
}

/** Asks about `check`; about nothing while that is null. */
export function useExplanation(check: Check | null): ExplanationState {
  const { data, error, isPlaceholderData, refetch } = useQuery({
    queryKey: ['explanation', check],
    queryFn: ({ signal }) => (check === null ? null : explain(check, signal)),
    enabled: check !== null,
    refetchInterval: (query) => (mayPass(query.state.error ?? null) ? EVERY_MS : false),
    placeholderData: keepPreviousData,
    retry: false,
    staleTime: 0,
    gcTime: 0,
  });
  return {
    data: check === null ? undefined : (data ?? undefined),
    error,
    isOld: isPlaceholderData || error !== null,
    refetch: () => void refetch(),
  };
}

export interface KnownPolicies {
  readonly byId: ReadonlyMap<string, Policy>;
  readonly isPending: boolean;
  /** Whether they were read, and there are none. */
  readonly isEmpty: boolean;
  readonly error: Error | null;
}

/** The policies by id, read anew when there is another `version` of them; none while that is not known. */
export function usePolicies(version: number | undefined): KnownPolicies {
  const { data, isPending, error } = useQuery({
    queryKey: ['records', 'policies', 'all', version],
    queryFn: ({ signal }) => listAllRecords<Policy>('policies', MAX_POLICIES, signal),
    enabled: version !== undefined,
    placeholderData: keepPreviousData,
    staleTime: Infinity,
  });
  const byId = useMemo(() => new Map((data ?? []).map((policy) => [policy.id, policy])), [data]);
  return { byId, isPending, isEmpty: data?.length === 0, error };
}
