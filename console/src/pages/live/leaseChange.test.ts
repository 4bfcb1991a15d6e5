import { describe, expect, it } from 'vitest';

import { leaseChangeOf } from './fixtures';
import { chargesInWords, debtInWords, eventInWords } from './leaseChange';

const SLOT = { policyId: 'parallel', unit: 'concurrency', chargedBefore: 1, charged: 0, debt: 0 };
const TOKENS = { policyId: 'tokens', unit: 'tokens', chargedBefore: 40, charged: 90, debt: 50 };

describe('a change of a lease in words', () => {
  it('says what happened, also if it is new', () => {
    expect(eventInWords('settled_late')).toEqual({ label: 'Settled late', tone: 'warn' });
    expect(eventInWords('moved_away')).toEqual({ label: 'moved away', tone: 'neutral' });
  });

  it('says what changed', () => {
    expect(chargesInWords(leaseChangeOf({ limits: [SLOT, TOKENS] }))).toBe(
      'parallel: slot free; tokens: 90 tokens, 40 before',
    );
    const kept = { ...TOKENS, chargedBefore: 90 };
    expect(chargesInWords(leaseChangeOf({ limits: [SLOT, kept] }))).toBe('parallel: slot free');
    expect(chargesInWords(leaseChangeOf({ limits: [kept] }))).toBe('tokens: 90 tokens');
    expect(chargesInWords(leaseChangeOf({ limits: [] }))).toBe('');
  });

  it('says which limits are exceeded', () => {
    expect(debtInWords(leaseChangeOf({ limits: [SLOT, TOKENS] }))).toBe('50 above tokens');
    expect(debtInWords(leaseChangeOf({ limits: [{ ...TOKENS, debt: null }] }))).toBe('');
  });
});
