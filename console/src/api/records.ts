/** The records of the catalog: lists by cursor, and changes that name the version they are meant for. */
import { adminCall, adminResponse, recordPath, type Page, type RecordKind, type Versioned } from './admin';

export type Filters = Readonly<Record<string, string>>;

export const PAGE_ITEMS = 500;

async function versioned<Item>(response: Response): Promise<Versioned<Item>> {
  return { record: (await response.json()) as Item, etag: response.headers.get('etag') };
}

export function listRecords<Item>(
  kind: RecordKind,
  filters: Filters,
  cursor: string | null,
  signal: AbortSignal,
  limit = PAGE_ITEMS,
): Promise<Page<Item>> {
  const query = { ...filters, limit, ...(cursor === null ? {} : { cursor }) };
  return adminCall<Page<Item>>(`/admin/${kind}`, { query, signal });
}

/** Every record of `kind`, or the first `maxItems` and some. */
export async function listAllRecords<Item>(
  kind: RecordKind,
  maxItems: number,
  signal: AbortSignal,
): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | null = null;
  do {
    const page: Page<Item> = await listRecords<Item>(kind, {}, cursor, signal);
    items.push(...page.items);
    cursor = page.nextCursor;
  } while (cursor !== null && items.length < maxItems);
  return items;
}

export async function getRecord<Item>(
  kind: RecordKind,
  id: string,
  signal?: AbortSignal,
): Promise<Versioned<Item>> {
  return versioned(await adminResponse(recordPath(kind, id), signal === undefined ? {} : { signal }));
}

export async function createRecord<Item>(kind: RecordKind, body: unknown): Promise<Versioned<Item>> {
  return versioned(await adminResponse(`/admin/${kind}`, { method: 'POST', body }));
}

/** Replaces the version `etag` of a record, or whichever there is if that is null. */
export async function replaceRecord<Item>(
  kind: RecordKind,
  id: string,
  body: unknown,
  etag: string | null,
): Promise<Versioned<Item>> {
  return versioned(await adminResponse(recordPath(kind, id), { method: 'PUT', body, ifMatch: etag }));
}

export async function patchRecord<Item>(
  kind: RecordKind,
  id: string,
  body: unknown,
  etag: string | null,
): Promise<Versioned<Item>> {
  return versioned(await adminResponse(recordPath(kind, id), { method: 'PATCH', body, ifMatch: etag }));
}

export async function deleteRecord(kind: RecordKind, id: string, etag: string | null): Promise<void> {
  await adminResponse(recordPath(kind, id), { method: 'DELETE', ifMatch: etag });
}
