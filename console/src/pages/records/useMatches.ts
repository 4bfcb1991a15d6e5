/** The records whose ids or names contain what is typed, however many there are of their kind. */
import { keepPreviousData, useQuery } from '@tanstack/react-query';

import type { RecordKind } from '../../api/admin';
import { listRecords, type Filters } from '../../api/records';
import type { Item } from './kind';
import { usePaused } from './usePaused';

const MAX_MATCHES = 50;
const STALE_MS = 60_000;
const NONE: readonly never[] = [];

/** What is of use of a record that is found. */
export interface Match extends Item {
  tier?: string;
}

export interface MatchesOptions {
  of: RecordKind;
  text: string;
  filters?: Filters;
}

/** The first records of a kind whose ids or names contain `text`, which is heard once it rests. */
export function useMatches({ of, text, filters = {} }: MatchesOptions): readonly Match[] {
  const search = usePaused(text);
  const { data = NONE } = useQuery({
    queryKey: ['ids', of, filters, search],
    queryFn: async ({ signal }): Promise<readonly Match[]> => {
      const narrowed = search === '' ? filters : { ...filters, search };
      return (await listRecords<Match>(of, narrowed, null, signal, MAX_MATCHES)).items;
    },
    // What cannot be looked up is only not offered.
    retry: false,
    staleTime: STALE_MS,
    placeholderData: keepPreviousData,
  });
  return data;
}

/** The record with just the id `text`; null if there is none, or none is known yet. */
export function useMatch(options: MatchesOptions): Match | null {
  return useMatches(options).find(({ id }) => id === options.text) ?? null;
}
