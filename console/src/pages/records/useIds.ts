/** Ids to offer where one is asked for. */
import { useQuery } from '@tanstack/react-query';

import type { Page, RecordKind } from '../../api/admin';
import { listRecords } from '../../api/records';

const STALE_MS = 60_000;

/** The first ids of `kind`, to offer while one types; empty until they are known. */
export function useIds(kind: RecordKind | undefined): readonly string[] {
  const { data = [] } = useQuery({
    queryKey: ['ids', kind],
    queryFn: async ({ signal }): Promise<string[]> => {
      if (kind === undefined) return [];
      const page: Page<{ id: string }> = await listRecords(kind, {}, null, signal);
      return page.items.map(({ id }) => id);
    },
    enabled: kind !== undefined,
    staleTime: STALE_MS,
  });
  return data;
}
