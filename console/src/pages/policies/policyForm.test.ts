import { describe, expect, it } from 'vitest';

import type { Policy } from './policy';
import {
  formOfPolicy,
  LISTED,
  NEW_POLICY,
  policyFormPathOf,
  policyOfForm,
  type PolicyForm,
} from './policyForm';

describe('a policy', () => {
  it.each<Policy>([
    { id: 'default', scope: 'USER_MODEL', limit: 100, windowSeconds: 3600 },
    { id: 'exempt', scope: 'USER', limit: null, windowSeconds: 60 },
    { id: 'exempt at all times', scope: 'USER', limit: null },
    { id: 'exempt from all', scope: 'GLOBAL', match: { ip: '192.0.2.1' }, limit: null, exempt: 'all' },
    {
      id: 'conditions',
      scope: 'USER',
      match: { model: ['gpt-4*', 'o1'], tenant: { present: true }, region: { absent: true } },
      ignoreCase: true,
      limit: 5,
      windowSeconds: 60,
      overrides: ['ban'],
    },
    { id: 'ban', scope: 'IP', match: { ip: ['203.0.113.7', '203.0.113.8'] }, limit: 0 },
    { id: 'listed', per: ['apiKey', 'model'], unit: 'tokens', limit: 150_000, windowSeconds: 0.25 },
    { id: 'nobody', per: [], limit: 1, windowSeconds: 31_622_400 },
    {
      id: 'all of it',
      scope: 'SERVICE',
      match: { service: 'payments', tier: 'free', 'a.b': 'c' },
      unit: 'input_tokens',
      limit: 9_007_199_254_740_991,
      windowSeconds: 90,
      algorithm: 'sliding_window_counter',
      mode: 'shadow',
      onStoreError: 'deny',
      enabled: false,
      shares: { batch: 0.07, standard: 0.57, premium: 0.29, internal: 1 },
    },
    { id: 'bucket', scope: 'USER', limit: 60, burst: 10, windowSeconds: 60, algorithm: 'token_bucket' },
    { id: 'per network', scope: 'IP', ipv6Prefix: 48, limit: 1, windowSeconds: 1, visibility: 'private' },
    { id: 'after the fact', scope: 'USER', limit: 90000, windowSeconds: 60, overLimit: 'charge' },
    { id: 'given back', scope: 'USER', limit: 90000, windowSeconds: 60, onExpire: 'refund' },
    {
      id: 'learned',
      scope: 'USER',
      limit: 90000,
      windowSeconds: 60,
      reserve: { output_tokens: { quantile: 0.95, atLeast: 64, atMost: 4096 } },
    },
    {
      id: 'weighted',
      scope: 'USER',
      unit: 'tokens',
      limit: 90000,
      windowSeconds: 60,
      weights: { cached_input_tokens: 0.1 },
    },
    { id: 'hot', scope: 'GLOBAL', limit: 90000, windowSeconds: 60, split: { share: 0.07 } },
    { id: 'daily', scope: 'USER', limit: 60, calendar: 'day', timeZone: 'Europe/Berlin' },
    { id: 'monthly', scope: 'USER', limit: 60, calendar: 'month' },
    { id: 'ban of days', scope: 'USER', limit: 0, calendar: 'day' },
    { id: 'slots', scope: 'USER', unit: 'concurrency', limit: 5, shares: { batch: 0.5 } },
    { id: 'no slots', scope: 'USER', unit: 'concurrency', limit: 0 },
    { id: 'exempt from slots', scope: 'USER', unit: 'concurrency', limit: null },
    { id: 'plain bucket', scope: 'USER', limit: 60, windowSeconds: 60, algorithm: 'token_bucket' },
  ])('passes through the form unchanged: $id', (policy) => {
    expect(policyOfForm(formOfPolicy(policy))).toEqual(policy);
  });

  it('has its window in the largest unit that fits', () => {
    const windowOf = (windowSeconds: number): string => {
      const { window, windowUnit } = formOfPolicy({ id: 'p', limit: 1, windowSeconds });
      return `${window} ${windowUnit}`;
    };
    expect([0.5, 1, 90, 120, 3600, 5400, 172_800].map(windowOf)).toEqual([
      '0.5 seconds',
      '1 seconds',
      '90 seconds',
      '2 minutes',
      '1 hours',
      '90 minutes',
      '2 days',
    ]);
  });
});

describe('what is typed', () => {
  const sent = (change: Partial<PolicyForm>): Record<string, unknown> =>
    policyOfForm({ ...NEW_POLICY, id: 'p', amount: '5', ...change });

  it.each<[string, Partial<PolicyForm>, object]>([
    ['no limit yet', { amount: ' ' }, { scope: 'USER_MODEL', windowSeconds: 60 }],
    ['a limit that is no number', { amount: 'many' }, { limit: 'many' }],
    ['a limit that is no integer', { amount: '1.5' }, { limit: 1.5 }],
    ['a limit below zero', { amount: '-1' }, { limit: -1 }],
    ['a limit with an exponent', { amount: '1e3' }, { limit: '1e3' }],
    ['a window in hours', { window: '2', windowUnit: 'hours' }, { windowSeconds: 7200 }],
    ['a window that is no number', { window: 'long' }, { windowSeconds: 'long' }],
    [
      'a period',
      { algorithm: 'calendar', calendar: 'week', timeZone: ' UTC ' },
      { calendar: 'week', timeZone: 'UTC' },
    ],
    ['a share in percent', { shares: { ...NEW_POLICY.shares, batch: '50' } }, { shares: { batch: 0.5 } }],
    ['a share that is none', { shares: { ...NEW_POLICY.shares, batch: 'x' } }, { shares: { batch: 'x' } }],
    ['a ban', { limitKind: 'ban' }, { limit: 0 }],
    ['an exemption', { limitKind: 'exempt', onExpire: 'refund' }, { limit: null }],
    ['one of a window', { limitKind: 'exempt', everyWindow: false }, { limit: null, windowSeconds: 60 }],
    ['one from everything', { limitKind: 'exemptAll', everyWindow: false }, { limit: null, exempt: 'all' }],
    [
      'a condition without a value to type',
      { conditions: [{ attribute: 'tier', test: 'absent', values: ['left'] }] },
      { match: { tier: { absent: true } } },
    ],
    [
      'a condition without values',
      { conditions: [{ attribute: 'tier', test: 'values', values: [] }] },
      { match: { tier: [] } },
    ],
  ])('is sent for the server to judge: %s', (_, change, policy) => {
    expect(sent(change)).toMatchObject(policy);
  });

  it('has no window and no algorithm beside a period', () => {
    const policy = sent({ algorithm: 'calendar' });
    expect(policy).toEqual({ id: 'p', scope: 'USER_MODEL', limit: 5, calendar: 'day' });
    const ban = sent({ algorithm: 'calendar', limitKind: 'ban' });
    expect(ban).toEqual({ id: 'p', scope: 'USER_MODEL', limit: 0 });
  });

  it('has nothing of windows where leases are limited', () => {
    const change = {
      unit: ' concurrency ',
      algorithm: 'token_bucket',
      burst: '9',
      overLimit: 'charge',
      onExpire: 'refund',
      everyWindow: false,
    };
    const slots = { id: 'p', scope: 'USER_MODEL', unit: 'concurrency', limit: 5 };
    expect(sent(change)).toEqual(slots);
    expect(sent({ ...change, algorithm: 'calendar' })).toEqual(slots);
    expect(sent({ ...change, limitKind: 'ban' })).toEqual({ ...slots, limit: 0 });
  });

  it('has no scope where attributes are listed, and no window where none is typed', () => {
    expect(sent({ scope: LISTED, per: ['user'], window: '' })).toEqual({ id: 'p', per: ['user'], limit: 5 });
  });
});

it.each([
  ['id', 'id'],
  ['scope', 'scope'],
  ['per', 'per'],
  ['per[1]', 'per'],
  ['limit', 'amount'],
  ['windowSeconds', 'window'],
  ['timeZone', 'timeZone'],
  ['shares', 'shares.batch'],
  ['shares.standard', 'shares.standard'],
  ['match.tier', 'conditions.0.values'],
  ['match.tier[2]', 'conditions.0.values'],
  ['match.tier.absent', 'conditions.0.values'],
  ['overrides[0]', 'overrides'],
  ['exempt', 'limitKind'],
  ['match["a.b"][0]', 'conditions.1.values'],
  ['match.tiers', null],
  ['match', null],
  ['body', null],
  ['if-match', null],
])('the problem of %s is shown at %s', (field, path) => {
  const conditions: PolicyForm['conditions'] = [
    { attribute: 'tier', test: 'values', values: [] },
    { attribute: 'a.b', test: 'values', values: [''] },
  ];
  expect(policyFormPathOf(field, { ...NEW_POLICY, conditions })).toBe(path);
});
