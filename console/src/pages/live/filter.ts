/** Which decisions are shown: as the address holds it, and as decisions meet it. */
import type { DecisionEvent, EventFilter, LeaseChange, Subject } from '../../api/events';

export const FILTER_FIELDS = ['allowed', 'policy', 'user', 'model', 'tenant'] as const;
export type FilterField = (typeof FILTER_FIELDS)[number];

export const NO_FILTER: EventFilter = { allowed: '', policy: '', user: '', model: '', tenant: '' };

/** The filter that an address's query names. */
export function filterOfQuery(query: URLSearchParams): EventFilter {
  const allowed = query.get('allowed');
  return {
    allowed: allowed === 'true' || allowed === 'false' ? allowed : '',
    policy: query.get('policy') ?? '',
    user: query.get('user') ?? '',
    model: query.get('model') ?? '',
    tenant: query.get('tenant') ?? '',
  };
}

export function isFiltered(filter: EventFilter): boolean {
  return FILTER_FIELDS.some((field) => filter[field] !== '');
}

export function isSame(a: EventFilter, b: EventFilter): boolean {
  return FILTER_FIELDS.every((field) => a[field] === b[field]);
}

/** Whether everything that meets `next` meets `before` too, so that what was heard under `before` is complete. */
export function isNarrower(before: EventFilter, next: EventFilter): boolean {
  return FILTER_FIELDS.every((field) => before[field] === '' || before[field] === next[field]);
}

function isOf(subject: Subject, filter: EventFilter): boolean {
  return (['user', 'model', 'tenant'] as const).every(
    (name) => filter[name] === '' || subject[name] === filter[name],
  );
}

/** Whether the server would tell `decision` to a listener with `filter`. */
export function meets(decision: DecisionEvent, filter: EventFilter): boolean {
  return (
    (filter.allowed === '' || decision.allowed === (filter.allowed === 'true')) &&
    (filter.policy === '' || decision.policyId === filter.policy) &&
    isOf(decision.subject, filter)
  );
}

/** The same for a change of a lease, which is neither allowed nor denied. */
export function meetsLease(change: LeaseChange, filter: EventFilter): boolean {
  return (
    filter.allowed === '' &&
    (filter.policy === '' || change.limits.some(({ policyId }) => policyId === filter.policy)) &&
    isOf(change.subject, filter)
  );
}
