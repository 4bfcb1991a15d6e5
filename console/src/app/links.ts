/** Where a record and its changes are in the console. */
import type { RecordKind } from '../api/admin';
import type { components } from '../api/schema';

/** A kind of record as the audit log names it. */
export type AuditKind = components['schemas']['Change']['kind'];

export const RECORD_KINDS: Readonly<Record<AuditKind, RecordKind>> = {
  policy: 'policies',
  tenant: 'tenants',
  user: 'users',
  apiKey: 'api-keys',
  tier: 'tiers',
  modelTier: 'model-tiers',
  model: 'models',
};

export const AUDIT_KINDS = Object.fromEntries(
  Object.entries(RECORD_KINDS).map(([audited, kind]) => [kind, audited]),
) as Readonly<Record<RecordKind, AuditKind>>;

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

/** Every change of one record. */
export function changesLink(kind: RecordKind, id: string): string {
  return withQuery('/audit', { kind: AUDIT_KINDS[kind], id });
}
