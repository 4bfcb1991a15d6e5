import { describe, expect, it } from 'vitest';

import { formOfApiKey } from './apiKey';
import {
  apiKeyInWords,
  modelInWords,
  modelTierInWords,
  tenantInWords,
  tierInWords,
  userInWords,
  type RecordWords,
} from './words';

const NOW_MS = Date.parse('2026-11-21T09:30:00Z');
const USER = { id: 'alice', name: '', tenantId: 'acme', tier: '' };
const KEY = { ...formOfApiKey(null), id: 'k', tenantId: 'acme' };

describe('a record in words', () => {
  it.each<[string, RecordWords, string]>([
    [
      'a tenant of a tier',
      tenantInWords({ id: 'acme', name: '', tier: 'pro' }),
      'Checks for tenant acme have tier pro',
    ],
    [
      'a tenant of none',
      tenantInWords({ id: 'acme', name: '', tier: '' }),
      'Checks for tenant acme have tier default',
    ],
    [
      'a tenant without an id yet',
      tenantInWords({ id: '', name: '', tier: '' }),
      'Checks for this tenant have tier default',
    ],
    [
      'a user with a tier of its own',
      userInWords({ ...USER, tier: 'gold' }, 'pro'),
      'Checks of user alice count for tenant acme and have tier gold',
    ],
    [
      'a user with that of its tenant',
      userInWords(USER, 'pro'),
      'Checks of user alice count for tenant acme and have tier pro',
    ],
    [
      'a user of a tenant that is not known',
      userInWords(USER, null),
      'Checks of user alice count for tenant acme and have its tier',
    ],
    [
      'a key of a user',
      apiKeyInWords({ ...KEY, userId: 'alice' }, NOW_MS),
      'Checks with this key count for tenant acme and user alice',
    ],
    ['a key of none', apiKeyInWords(KEY, NOW_MS), 'Checks with this key count for tenant acme'],
    [
      'a revoked key',
      apiKeyInWords({ ...KEY, revoked: true }, NOW_MS),
      'Revoked: every check with this key is denied',
    ],
    [
      'a key that has expired',
      apiKeyInWords({ ...KEY, expiresAt: '2026-11-01' }, NOW_MS),
      'Expired: every check with this key is denied',
    ],
    [
      'the least tier',
      tierInWords({ id: 'free', name: '', priority: 'batch' }),
      'When there is not enough for everyone, tier free is denied first',
    ],
    [
      'a model tier',
      modelTierInWords({ id: 'large', name: '' }),
      'Policies for model tier large apply to each of its models',
    ],
    [
      'a model',
      modelInWords({ id: 'gpt-4', name: '', modelTier: 'large' }),
      'Policies for model tier large apply to checks for model gpt-4',
    ],
  ])('%s', (_, words, headline) => {
    expect(words.headline).toBe(headline);
  });

  it('says of a key when it ends, how it starts and when it was used', () => {
    const notes = apiKeyInWords({ ...KEY, prefix: 'tg_live_1', expiresAt: '2026-12-01' }, NOW_MS).notes.join(
      ' ',
    );
    expect(notes).toContain('It expires in 10 days');
    expect(notes).toContain('It starts with tg_live_1 and has not been used yet.');
  });

  it('says that the default tier stays', () => {
    expect(tierInWords({ id: 'default', name: '', priority: 'standard' }).notes.join(' ')).toContain(
      'It cannot be deleted.',
    );
  });
});
