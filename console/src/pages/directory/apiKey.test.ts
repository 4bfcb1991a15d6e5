import { describe, expect, it } from 'vitest';

import { apiKeyOfForm, formOfApiKey, stateOf, type ApiKey } from './apiKey';

const NOW_MS = Date.parse('2026-11-21T09:30:00Z');
const KEY: ApiKey = {
  id: 'acme-production',
  name: 'Production',
  tenantId: 'acme',
  userId: 'alice',
  expiresAt: '2030-12-31T23:59:59Z',
  revoked: false,
  prefix: 'tg_live_3f9a1c07',
  lastUsedAt: '2026-11-20T09:00:00.5Z',
};

describe('the form of an API key', () => {
  it('sends back what can be changed, and neither its prefix nor its last use', () => {
    const { prefix, lastUsedAt, ...editable } = KEY;
    expect([prefix, lastUsedAt]).not.toContain(undefined);
    expect(apiKeyOfForm(formOfApiKey(KEY))).toEqual(editable);
  });

  it('keeps a revoked key revoked', () => {
    expect(apiKeyOfForm(formOfApiKey({ ...KEY, revoked: true }))).toMatchObject({ revoked: true });
  });

  it('sends no end for a key that never expires', () => {
    expect(apiKeyOfForm({ ...formOfApiKey(KEY), expiresAt: '' })).not.toHaveProperty('expiresAt');
  });
});

describe('whether a key works', () => {
  it.each<[Partial<ApiKey>, string]>([
    [{}, 'active'],
    [{ revoked: true, expiresAt: '2020-01-01T00:00:00Z' }, 'revoked'],
    [{ expiresAt: '2026-11-21T09:30:00Z' }, 'expired'],
    [{ expiresAt: '2026-11-21T09:30:00.001Z' }, 'ends in 0 seconds'],
    [{ expiresAt: '2026-11-24T10:00:00Z' }, 'ends in 3 days'],
  ])('%j is %s', (change, word) => {
    expect(stateOf({ ...KEY, ...change }, NOW_MS).word).toBe(word);
  });

  it('is active without an end', () => {
    const { expiresAt, ...endless } = KEY;
    expect(expiresAt).toBeDefined();
    expect(stateOf(endless, NOW_MS).word).toBe('active');
  });
});
