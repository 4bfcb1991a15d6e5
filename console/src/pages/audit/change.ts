/** A change of a record, as the audit log has it. */
import { adminCall, type Page } from '../../api/admin';
import type { components } from '../../api/schema';
import { RECORD_KINDS, type AuditKind } from '../../app/links';
import type { Tone } from '../../ui/StatusDot';
import { changesInWords, compare } from '../records/compare';

export type Change = components['schemas']['Change'];

/** What the server narrows the log by; what is empty does not. */
export interface ChangeFilters {
  kind: string;
  id: string;
  actor: string;
}

const PAGE_CHANGES = 200;

/** The changes before the one numbered `cursor`, the newest first. */
export function listChanges(
  filters: ChangeFilters,
  cursor: string | null,
  signal: AbortSignal,
  limit = PAGE_CHANGES,
): Promise<Page<Change>> {
  return adminCall<Page<Change>>('/admin/audit', {
    query: { ...filters, limit, ...(cursor === null ? {} : { cursor }) },
    signal,
  });
}

const ALL: ChangeFilters = { kind: '', id: '', actor: '' };

/** The number of a change in an address; null for anything else. */
export function changeNumber(text: string): number | null {
  return /^\d{1,15}$/u.test(text) ? Number(text) : null;
}

/** The change with this number: the first before the next one. Null if there is none. */
export async function getChange(number: number, signal: AbortSignal): Promise<Change | null> {
  const { items } = await listChanges(ALL, String(number + 1), signal, 1);
  return items.find(({ id }) => id === number) ?? null;
}

/** The newest change of a record, which says whether it is still there. */
export async function newestChange(kind: AuditKind, id: string, signal: AbortSignal): Promise<Change | null> {
  const { items } = await listChanges({ kind, id, actor: '' }, null, signal, 1);
  return items[0] ?? null;
}

export function isAuditKind(text: string): text is AuditKind {
  return Object.hasOwn(RECORD_KINDS, text);
}

/** In a sentence. */
export const KIND_WORDS: Readonly<Record<AuditKind, string>> = {
  policy: 'policy',
  tenant: 'tenant',
  user: 'user',
  apiKey: 'API key',
  tier: 'tier',
  modelTier: 'model tier',
  model: 'model',
};

export const ACTION_WORDS: Readonly<Record<Change['action'], { word: string; tone: Tone }>> = {
  create: { word: 'created', tone: 'ok' },
  update: { word: 'changed', tone: 'warn' },
  delete: { word: 'deleted', tone: 'bad' },
};

/** The most fields that a line of the table names. */
const MAX_FIELDS = 3;

/** `name Acme, tier pro and 2 more`: what a record is besides its id, and a name that only repeats it. */
function fieldsInWords(record: object): string {
  const fields = compare(null, record);
  const id = fields.find(({ path }) => path === 'id')?.after;
  const telling = fields.filter(({ path, after }) => path !== 'id' && !(path === 'name' && after === id));
  const words = telling.slice(0, MAX_FIELDS).map(({ path, after }) => `${path} ${after ?? ''}`);
  const rest = telling.length - words.length;
  return rest > 0 ? `${words.join(', ')} and ${rest} more` : words.join(', ');
}

/** What a change did to its record, for a line of the table. */
export function changeInWords({ before, after }: Pick<Change, 'before' | 'after'>): string {
  if (before != null && after != null) return changesInWords(before, after, MAX_FIELDS) || 'no field changed';
  return fieldsInWords(after ?? before ?? {});
}

/** What became of a record since `change`, by the newest change of it. */
export type Since = 'unchanged' | 'changed' | 'deleted';

export function sinceThen(change: Change, newest: Change): Since {
  if (newest.after == null) return 'deleted';
  return newest.id === change.id ? 'unchanged' : 'changed';
}
