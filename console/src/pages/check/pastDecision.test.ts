import { describe, expect, it } from 'vitest';

import { decisionOf } from '../live/fixtures';
import { pastDecisionInWords, pastDecisionOf, textOfPastDecision } from './pastDecision';

const DENIED = decisionOf({
  allowed: false,
  reason: 'limit_exceeded',
  policyId: 'user-tpm',
  unit: 'tokens',
  limit: 60_000,
  count: 58_561,
  needed: 2_100,
  remaining: 1_439,
});

describe('a decision in an address', () => {
  it('is read as it was written, without the API key', () => {
    const subject = { user: 'alice', apiKey: 'ci' };
    const text = textOfPastDecision({ ...DENIED, subject });
    expect(text).not.toContain('"ci"');
    expect(pastDecisionOf(text)).toMatchObject({ needed: 2_100, remaining: 1_439, hasApiKey: true });
  });

  it.each(['', 'null', '7', '{}', '{"at":"now"}', '{"at":1,"allowed":true,"hasApiKey":false,"limit":"x"}'])(
    'is none where the address holds %j',
    (text) => {
      expect(pastDecisionOf(text)).toBeNull();
    },
  );

  it.each([
    [DENIED, /^Denied at [\d:]+ by policy user-tpm\. Needed 2,100 tokens; 1,439 of 60,000 left\.$/u],
    [decisionOf(), /^Allowed at [\d:]+ by policy default\. Used 1 request; 99 of 100 left afterwards\.$/u],
    [
      decisionOf({ allowed: false, reason: 'api_key_revoked', policyId: null, limit: null, needed: null }),
      /^Denied at [\d:]+\. The API key was revoked\.$/u,
    ],
  ])('is told in words', (decision, words) => {
    const past = pastDecisionOf(textOfPastDecision(decision));
    expect(past === null ? '' : pastDecisionInWords(past)).toMatch(words);
  });
});
