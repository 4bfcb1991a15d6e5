import { describe, expect, it } from 'vitest';

import type { Check } from '../check/check';
import type { Decision, Limit } from '../check/words';
import { bindingLimit, EMPTY, limitKey, MAX_WINDOWS, record, type Outcome } from './record';
import { usageAt } from './windowModel';

const LIMIT: Limit = {
  policyId: 'default',
  scope: 'USER_MODEL',
  unit: 'requests',
  algorithm: 'sliding_window_log',
  mode: 'enforce',
  allowed: true,
  limit: 100,
  count: 1,
  remaining: 99,
  windowSeconds: 60,
  retryAfterMs: 0,
  resetAfterMs: 60_000,
};
const CHECK: Check = { userId: 'alice', modelId: 'gpt-4' };

function outcome(limits: readonly Partial<Limit>[], change: Partial<Decision> = {}, check = CHECK): Outcome {
  const decision: Decision = {
    allowed: true,
    limit: 100,
    count: 1,
    remaining: 99,
    windowSeconds: 60,
    retryAfterMs: 0,
    resetAfterMs: 60_000,
    policyId: 'default',
    scope: 'USER_MODEL',
    unit: 'requests',
    reason: null,
    degraded: false,
    limits: limits.map((limit) => ({ ...LIMIT, ...limit })),
    ...change,
  };
  return { check, decision, arrivedAt: 10, tookMs: 1 };
}

function usages(outcomes: readonly Outcome[]): number[] {
  return [...record(EMPTY, outcomes).windows.values()].map((window) => usageAt(window, 10));
}

it('keeps no window of a limit of leases', () => {
  const slots = { policyId: 'slots', unit: 'concurrency', algorithm: 'concurrency', windowSeconds: null };
  const windows = [...record(EMPTY, [outcome([{}, slots])]).windows.values()];
  expect(windows.map(({ policyId }) => policyId)).toEqual(['default']);
});

describe('a key', () => {
  it('is one limit, whatever the check says beside what it is kept per', () => {
    expect(limitKey(LIMIT, CHECK)).toBe(limitKey(LIMIT, { ...CHECK, tenantId: 'acme' }));
    expect(limitKey(LIMIT, CHECK)).not.toBe(limitKey(LIMIT, { ...CHECK, userId: 'bob' }));
    expect(limitKey(LIMIT, CHECK)).not.toBe(limitKey({ ...LIMIT, policyId: 'other' }, CHECK));
  });

  it('is not shared by ids that hold separators (R8)', () => {
    const one = limitKey(LIMIT, { userId: 'a","b', modelId: 'c' });
    expect(one).not.toBe(limitKey(LIMIT, { userId: 'a', modelId: 'b","c' }));
  });

  it('is the whole subject where the catalog adds what it is kept per', () => {
    const limit = { ...LIMIT, scope: 'tier+model' };
    expect(limitKey(limit, CHECK)).not.toBe(limitKey(limit, { ...CHECK, userId: 'bob' }));
  });
});

describe('an outcome', () => {
  it('is charged to each limit in its own unit', () => {
    const check = { ...CHECK, cost: { tokens: 40 } };
    const limits = [{}, { policyId: 'tokens', unit: 'tokens', count: 40 }];
    expect(usages([outcome(limits, {}, check)])).toEqual([1, 40]);
  });

  it('charges no limit when one denies (R3)', () => {
    const limits = [{}, { policyId: 'tight', allowed: false }];
    const state = record(EMPTY, [outcome(limits, { allowed: false, reason: 'limit_exceeded' })]);
    expect([...state.windows.values()].map((window) => window.denials.length)).toEqual([0, 1]);
    expect(usages([outcome(limits, { allowed: false })])).toEqual([0, 0]);
    expect(state.tally).toEqual({ allowed: 0, denied: 1 });
  });

  it('marks what a shadow limit would have denied, and charges the others (R10)', () => {
    const limits = [{}, { policyId: 'shadow', mode: 'shadow', allowed: false }];
    expect(usages([outcome(limits)])).toEqual([1, 0]);
  });

  it('counts what is denied where the policy does, whichever limit denies (R19)', () => {
    const limits: readonly Partial<Limit>[] = [
      { allowed: false, overLimit: 'charge' },
      { policyId: 'beside', overLimit: 'charge' },
      { policyId: 'other' },
    ];
    const denied = outcome(limits, { allowed: false });
    expect(usages([denied])).toEqual([1, 1, 0]);
    const [window] = record(EMPTY, [denied]).windows.values();
    expect(window?.admissions).toEqual([{ at: 10, amount: 1, isDenied: true }]);
    expect(window?.denials).toEqual([]);
  });

  it('without the store changes no window', () => {
    const state = record(EMPTY, [outcome([{}], { degraded: true })]);
    expect(state.windows.size).toBe(0);
    expect(state.last?.decision.degraded).toBe(true);
  });

  it('keeps the windows bounded, the last used longest', () => {
    const checks = Array.from({ length: MAX_WINDOWS + 5 }, (_, user) => ({
      ...CHECK,
      userId: `user-${user}`,
    }));
    const outcomes = checks.map((check) => outcome([{}], {}, check));
    const state = record(record(EMPTY, outcomes.slice(0, 10)), [
      outcome([{}], {}, CHECK),
      ...outcomes.slice(10),
    ]);
    expect(state.windows.size).toBe(MAX_WINDOWS);
    expect(state.windows.has(limitKey(LIMIT, CHECK))).toBe(true);
    expect(state.windows.has(limitKey(LIMIT, { ...CHECK, userId: 'user-0' }))).toBe(false);
  });
});

describe('the binding limit', () => {
  it('is the one that the decision names', () => {
    expect(bindingLimit(outcome([{ policyId: 'other' }, {}]).decision)?.policyId).toBe('default');
    expect(bindingLimit(outcome([], { policyId: null }).decision)).toBeNull();
  });
});
