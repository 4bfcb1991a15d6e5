/**
 * The calls below `/admin`, with types by hand until `openapi.json` describes them. Shapes that a page alone uses are
 * declared with that page's own queries; what several need is here.
 */
import { apiUrl, send } from './client';

export type RecordKind = 'tenants' | 'users' | 'api-keys' | 'tiers' | 'model-tiers' | 'models' | 'policies';

export interface Page<Item> {
  items: Item[];
  /** Where the next page starts; null on the last. */
  nextCursor: string | null;
}

/** A record and the version that a change of it names in `If-Match`. */
export interface Versioned<Item> {
  record: Item;
  etag: string | null;
}

export interface AdminCall {
  method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  query?: Readonly<Record<string, string | number | boolean | undefined>>;
  body?: unknown;
  /** The version that the change is meant for; any if left out. */
  ifMatch?: string | null;
  /** In place of the session's. */
  token?: string;
  signal?: AbortSignal;
}

/** Makes one call below `/admin`; throws what `send` throws. */
export async function adminResponse(path: `/admin/${string}`, call: AdminCall = {}): Promise<Response> {
  const url = new URL(apiUrl(path));
  for (const [name, value] of Object.entries(call.query ?? {})) {
    if (value !== undefined && value !== '') url.searchParams.set(name, String(value));
  }
  const headers = new Headers();
  if (call.body !== undefined) headers.set('content-type', 'application/json');
  if (call.token !== undefined) headers.set('authorization', `Bearer ${call.token}`);
  if (typeof call.ifMatch === 'string') headers.set('if-match', call.ifMatch);
  return send(
    new Request(url, {
      method: call.method ?? 'GET',
      headers,
      cache: 'no-store',
      ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    }),
  );
}

/** The same, and its body. The type is the caller's word for what the server sends. */

export async function adminCall<Answer>(path: `/admin/${string}`, call: AdminCall = {}): Promise<Answer> {
  const response = await adminResponse(path, call);
  return (await response.json()) as Answer;
}

/** Separates the tenant from the id in the address of a user; no id has a control character. */
const SEPARATOR = '\u001f';

/** What finds a user: users of two tenants may have the same id. */
export function userAddress(tenantId: string, id: string): string {
  return `${tenantId}${SEPARATOR}${id}`;
}

/** What finds `record`: its id, and of a user its tenant too. */
export function addressOf(kind: RecordKind, record: { id: string; tenantId?: string }): string {
  return kind === 'users' && record.tenantId !== undefined
    ? userAddress(record.tenantId, record.id)
    : record.id;
}

/** The id in an address. */
export function idOfAddress(address: string): string {
  return address.slice(address.lastIndexOf(SEPARATOR) + 1);
}

/** The path of the record at `address`. */
export function recordPath(kind: RecordKind, address: string): `/admin/${string}` {
  const path = `/admin/${kind}/${encodeURIComponent(idOfAddress(address))}` as const;
  const end = address.lastIndexOf(SEPARATOR);
  return end < 0 ? path : `${path}?tenantId=${encodeURIComponent(address.slice(0, end))}`;
}

/** Whether the server takes `token`, by default the session's: the least call that needs one. */
export async function checkToken(signal: AbortSignal, token?: string): Promise<true> {
  const call = { query: { limit: 1 }, signal };
  await adminResponse('/admin/policies', token === undefined ? call : { ...call, token });
  return true;
}
