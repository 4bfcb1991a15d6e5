/** Events for tests. */
import type { DecisionEvent, LeaseChange, StatsEvent } from '../../api/events';

export function statsOf(change: Partial<StatsEvent> = {}): StatsEvent {
  return {
    at: 1_000_000,
    allowed: 0,
    denied: 0,
    degraded: 0,
    policies: {},
    latencyMicros: null,
    keys: null,
    store: 'ok',
    catalog: 'ok',
    policiesVersion: 1,
    policyCount: 1,
    ...change,
  };
}

export function decisionOf(change: Partial<DecisionEvent> = {}): DecisionEvent {
  return {
    at: 1_000_000,
    allowed: true,
    reason: null,
    policyId: 'default',
    scope: 'USER_MODEL',
    unit: 'requests',
    limit: 100,
    count: 1,
    needed: 1,
    remaining: 99,
    retryAfterMs: 0,
    degraded: false,
    weight: 1,
    subject: { user: 'alice', model: 'gpt-4' },
    cost: { requests: 1 },
    ...change,
  };
}

export function leaseChangeOf(change: Partial<LeaseChange> = {}): LeaseChange {
  return {
    at: 1_000_000,
    event: 'settled',
    was: 'live',
    state: 'settled',
    weight: 1,
    subject: { user: 'alice', model: 'gpt-4' },
    limits: [{ policyId: 'tokens', unit: 'tokens', chargedBefore: 40, charged: 25, debt: 0 }],
    ...change,
  };
}
