import { describe, expect, it } from 'vitest';

import { announcementOf, limitInWords, reasonInWords, scopeInWords, type Decision } from './words';

const decision: Decision = {
  allowed: true,
  limit: 100,
  count: 1,
  remaining: 99,
  windowSeconds: 3600,
  retryAfterMs: 0,
  resetAfterMs: 3_600_000,
  policyId: 'default',
  scope: 'USER_MODEL',
  unit: 'requests',
  reason: null,
  degraded: false,
  limits: [],
};

describe('words', () => {
  it('say what a limit is kept per', () => {
    const cases: [string, string][] = [
      ['GLOBAL', 'all checks together'],
      ['USER', 'each user'],
      ['USER_MODEL', 'each user and model'],
      ['SERVICE', 'each service and user'],
      ['apiKey+model', 'each API key and model'],
      ['tenant+user+region', 'each tenant, user and region'],
    ];
    for (const [scope, words] of cases) expect(scopeInWords(scope)).toBe(words);
  });

  it('say what a limit is', () => {
    const limit = { limit: 150_000, unit: 'output_tokens', windowSeconds: 60, scope: 'API_KEY' };
    expect(limitInWords(limit)).toBe('150,000 output tokens in 1 minute for each API key');
    expect(limitInWords({ ...limit, limit: 1, unit: 'requests', windowSeconds: 90 })).toBe(
      '1 request in 90 seconds for each API key',
    );
    const slots = { ...limit, limit: 5, unit: 'concurrency', windowSeconds: null };
    expect(limitInWords(slots)).toBe('5 leases at a time for each API key');
  });

  it('say why a check was denied', () => {
    expect(reasonInWords(decision)).toBeNull();
    expect(reasonInWords({ ...decision, reason: 'banned' })).toBe('The policy denies every check.');
    expect(reasonInWords({ ...decision, reason: 'out_of_luck' })).toBe('out of luck');
  });

  it('announce the outcome', () => {
    expect(announcementOf(decision)).toBe('Allowed by policy default: 1 of 100 requests used.');
    const free = { ...decision, limit: null, policyId: null };
    expect(announcementOf(free)).toBe('Allowed. No limit applies.');
  });
});
