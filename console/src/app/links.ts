/** Where a record is in the console. */
import type { RecordKind } from '../api/admin';

function withQuery(path: string, query: Readonly<Record<string, string>>): string {
  const params = new URLSearchParams(query).toString();
  return params === '' ? path : `${path}?${params}`;
}

/** The list of `kind`, with these filters. */
export function listLink(kind: RecordKind, filters: Readonly<Record<string, string>> = {}): string {
  return withQuery(kind === 'policies' ? '/policies' : `/directory/${kind}`, filters);
}

/** One record, open over its list. */
export function recordLink(kind: RecordKind, id: string): string {
  return listLink(kind, { open: id });
}
