/** A lease that is alive, as the server lists it, and what is said of it. */
import { adminCall, adminResponse } from '../../api/admin';
import { formatNumber } from '../live/words';

export interface Hold {
  policyId: string;
  unit: string;
  charged: number;
}

export interface Lease {
  /** Null for who may only read: whoever knows it can settle the lease. */
  id: string | null;
  tenant: string | null;
  model: string | null;
  user: string | null;
  ageMs: number;
  livesForMs: number;
  /** What its last extension said was used so far, by unit. */
  observed: Readonly<Record<string, number>>;
  limits: readonly Hold[];
}

export interface Leases {
  /** The oldest first. */
  items: readonly Lease[];
  complete: boolean;
}

export interface LeaseFilter {
  policy: string;
  tenant: string;
}

const CONCURRENCY = 'concurrency';
/** A lease is one request, so nobody wonders how much of it is used. */
const REQUESTS = 'requests';
/** As many as a table is read for. */
const MAX_LEASES = 500;

export function listLeases({ policy, tenant }: LeaseFilter, signal: AbortSignal): Promise<Leases> {
  return adminCall<Leases>('/admin/leases', { query: { policy, tenant, limit: MAX_LEASES }, signal });
}

export async function releaseLease(id: string): Promise<void> {
  await adminResponse(`/admin/leases/${encodeURIComponent(id)}`, { method: 'DELETE' });
}

/** `alice, gpt-4`; what is not known is left out. */
export function holderOf({ user, model }: Lease): string {
  const known = [user, model].filter((part) => part !== null);
  return known.length === 0 ? 'unknown' : known.join(', ');
}

/** What is reserved of each unit but requests: several limits count the same amount. */
export function reservedOf({ limits }: Lease): ReadonlyMap<string, number> {
  const reserved = new Map<string, number>();
  for (const { unit, charged } of limits) {
    if (unit !== CONCURRENCY && unit !== REQUESTS)
      reserved.set(unit, Math.max(charged, reserved.get(unit) ?? 0));
  }
  return reserved;
}

/** `310 of 800 output_tokens`, or `800 output_tokens` while nobody has said what is used. */
export function usageInWords(lease: Lease): readonly string[] {
  return [...reservedOf(lease)].map(([unit, reserved]) => {
    const used = lease.observed[unit];
    const amount = `${formatNumber(reserved)} ${unit}`;
    return used === undefined ? amount : `${formatNumber(used)} of ${amount}`;
  });
}

/** How many slots it holds. */
export function slotsOf({ limits }: Lease): number {
  return limits.filter(({ unit, charged }) => unit === CONCURRENCY && charged > 0).length;
}

/** The policies whose limits it holds something of. */
export function policiesOf({ limits }: Lease): readonly string[] {
  return limits.map(({ policyId }) => policyId);
}

export interface Sum {
  leases: number;
  /** What all of them reserve, by unit. */
  reserved: ReadonlyMap<string, number>;
  observed: ReadonlyMap<string, number>;
}

/** What some leases hold together, and have used as far as they said. */
export function sumOf(leases: readonly Lease[]): Sum {
  const reserved = new Map<string, number>();
  const observed = new Map<string, number>();
  for (const lease of leases) {
    for (const [unit, amount] of reservedOf(lease)) {
      reserved.set(unit, (reserved.get(unit) ?? 0) + amount);
      observed.set(unit, (observed.get(unit) ?? 0) + (lease.observed[unit] ?? 0));
    }
  }
  return { leases: leases.length, reserved, observed };
}

/** `12 leases hold 9,600 output_tokens, and have used 3,100 so far.` */
export function sumInWords({ leases, reserved, observed }: Sum): string {
  const count = leases === 1 ? '1 lease' : `${formatNumber(leases)} leases`;
  const amounts = [...reserved].map(([unit, amount]) => {
    const used = observed.get(unit) ?? 0;
    return `${formatNumber(amount)} ${unit} (${formatNumber(used)} used so far)`;
  });
  if (amounts.length === 0) return `${count}.`;
  return `${count}, with ${amounts.join(', ')} reserved.`;
}
