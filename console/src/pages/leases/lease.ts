/** Live leases, as `/admin/leases` lists them, and what they hold in words. */
import { adminCall, adminResponse } from '../../api/admin';
import type { components } from '../../api/schema';
import { formatCount, unitInWords } from '../check/words';

export type LiveLeases = components['schemas']['LiveLeases'];
export type LiveLease = components['schemas']['LiveLease'];
export type LeaseGroup = components['schemas']['LeaseGroup'];
export type LiveHold = components['schemas']['LiveHold'];

export interface LeaseFilters {
  policy: string;
  tenant: string;
}

/** The most leases that are listed, and the most groups. */
export const MAX_LISTED = 200;

export async function listLiveLeases(filters: LeaseFilters, signal: AbortSignal): Promise<LiveLeases> {
  return adminCall<LiveLeases>('/admin/leases', { query: { ...filters, limit: MAX_LISTED }, signal });
}

export async function releaseLease(id: string): Promise<void> {
  await adminResponse(`/admin/leases/${encodeURIComponent(id)}`, { method: 'DELETE' });
}

/** `alice, gpt-4`; what a check named nobody by is left out. */
export function holderInWords({ user, model }: Pick<LiveLease, 'user' | 'model'>): string {
  const names = [user, model].filter((name) => name !== null);
  return names.length === 0 ? 'no user and no model' : names.join(', ');
}

/** Whether a bar can show how much of `reserved` is used: of nothing there is no part. */
export function hasShare({ reserved, used }: Pick<LiveHold, 'reserved' | 'used'>): boolean {
  return used !== null && reserved > 0;
}

/** `25 of 40 tokens used`, `40 tokens, no usage reported`, `25 tokens used, none reserved`, `1 slot`. */
export function holdInWords({ unit, reserved, used }: Pick<LiveHold, 'unit' | 'reserved' | 'used'>): string {
  if (unit === 'concurrency') return `${formatCount(reserved)} ${reserved === 1 ? 'slot' : 'slots'}`;
  if (reserved === 0 && used !== null && used > 0) {
    return `${formatCount(used)} ${unitInWords(unit, used)} used, none reserved`;
  }
  const amount = `${formatCount(reserved)} ${unitInWords(unit, reserved)}`;
  return used === null ? `${amount}, no usage reported` : `${formatCount(used)} of ${amount} used`;
}

/** What `lease` gives back when it is released: `1 slot and 40 tokens`. */
export function givenBackInWords({ limits }: LiveLease): string {
  const amounts = new Map<string, number>();
  // Several limits may count the same usage.
  for (const { unit, reserved } of limits) {
    if (reserved > 0) amounts.set(unit, Math.max(reserved, amounts.get(unit) ?? 0));
  }
  const words = [...amounts].map(([unit, reserved]) =>
    unit === 'concurrency' ? '1 slot' : `${formatCount(reserved)} ${unitInWords(unit, reserved)}`,
  );
  const last = words.pop();
  if (last === undefined) return 'nothing';
  return words.length === 0 ? last : `${words.join(', ')} and ${last}`;
}
