/** The records whose ids start with what is typed, however many there are of their kind. */
import { keepPreviousData, useQuery } from '@tanstack/react-query';

import type { RecordKind } from '../../api/admin';
import { listRecords, type Filters } from '../../api/records';
import { cursorBefore } from './cursorBefore';
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

/** The first records of a kind whose ids start with `text`, which is heard once it rests. */
export function useMatches({ of, text, filters = {} }: MatchesOptions): readonly Match[] {
  const prefix = usePaused(text);
  const { data = NONE } = useQuery({
    queryKey: ['ids', of, filters, prefix],
    queryFn: async ({ signal }): Promise<readonly Match[]> => {
      const page = await listRecords<Match>(of, filters, cursorBefore(prefix), signal, MAX_MATCHES);
      return page.items.filter(({ id }) => id.startsWith(prefix));
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
