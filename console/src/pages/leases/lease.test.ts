import { expect, test } from 'vitest';

import { holderOf, slotsOf, sumInWords, sumOf, usageInWords, type Lease } from './lease';

const LEASE: Lease = {
  id: 'm1',
  tenant: 'acme',
  model: 'gpt-4',
  user: 'alice',
  ageMs: 4_000,
  livesForMs: 26_000,
  observed: { output_tokens: 310 },
  limits: [
    { policyId: 'output', unit: 'output_tokens', charged: 800 },
    { policyId: 'output of the tenant', unit: 'output_tokens', charged: 800 },
    { policyId: 'input', unit: 'input_tokens', charged: 1_200 },
    { policyId: 'slots', unit: 'concurrency', charged: 1 },
  ],
};

test('what is used stands beside what is reserved', () => {
  expect(usageInWords(LEASE)).toEqual(['310 of 800 output_tokens', '1,200 input_tokens']);
  expect(slotsOf(LEASE)).toBe(1);
});

test('what is not known of a holder is left out', () => {
  expect(holderOf(LEASE)).toBe('alice, gpt-4');
  expect(holderOf({ ...LEASE, user: null })).toBe('gpt-4');
  expect(holderOf({ ...LEASE, user: null, model: null })).toBe('unknown');
});

test('leases are summed by unit, each amount once', () => {
  expect(sumInWords(sumOf([LEASE, { ...LEASE, observed: {} }]))).toBe(
    '2 leases, with 1,600 output_tokens (310 used so far), 2,400 input_tokens (0 used so far) reserved.',
  );
  expect(sumInWords(sumOf([{ ...LEASE, limits: [] }]))).toBe('1 lease.');
});
