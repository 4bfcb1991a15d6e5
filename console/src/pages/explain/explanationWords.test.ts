import { describe, expect, it } from 'vitest';

import type { Check } from '../check/check';
import type { Policy } from '../policies/policy';
import type { Considered, ConsideredPolicy } from './explanation';
import {
  countInWords,
  isHash,
  obstacleInWords,
  resolvedOf,
  shareInWords,
  usageInWords,
  verdictInWords,
  verdictOf,
} from './explanationWords';
import { consideredOf, explanationOf, SUBJECT } from './fixtures';

function considered(change: Partial<ConsideredPolicy>, policy: Partial<Policy> | null = null): Considered {
  return {
    answer: consideredOf('p', change),
    policy: policy === null ? null : { id: 'p', scope: 'USER', limit: 10, ...policy },
  };
}

describe('a policy that does not match', () => {
  const why = 'the subject\'s tier is "free"';
  it('says each condition that does not hold, and what is there', () => {
    const one = considered(
      { outcome: 'does_not_apply', why, unmet: ['tier', 'ip', 'tenant', 'service'] },
      {
        match: {
          tier: ['pro', 'max'],
          ip: '::1',
          tenant: { absent: true },
          service: { present: true },
        },
      },
    );
    expect(obstacleInWords(one, SUBJECT)).toBe(
      'needs tier pro or max, but the check has free; needs IP address ::1, which the check does not have; ' +
        'needs no tenant, but the check has acme; needs any service, which the check does not have',
    );
    const perIp = considered({ outcome: 'does_not_apply', why, unmet: ['ip'] }, { scope: 'IP' });
    expect(obstacleInWords(perIp, SUBJECT)).toBe('counts by IP address, which the check does not have');
  });

  it('says what the server says where the policy is not known, or is known otherwise', () => {
    expect(obstacleInWords(considered({ why }), SUBJECT)).toBe(why);
    expect(obstacleInWords(considered({ why }, {}), SUBJECT)).toBe(why);
  });
});

describe('a limit', () => {
  it('says how much of it is used', () => {
    const cases: [Considered, string | null][] = [
      [considered({ limit: 10, count: 4, remaining: 6 }, {}), '4 of 10 requests used, 6 left'],
      [considered({ limit: 10, count: 4, remaining: 6 }), '4 of 10 used, 6 left'],
      [
        considered({ limit: 1_000, count: 1_090, remaining: 0, debt: 90 }, { unit: 'tokens' }),
        '1,090 of 1,000 tokens used, 90 above the limit',
      ],
      [considered({ limit: 5_000, count: null }, { unit: 'tokens' }), '5,000 tokens, usage unknown'],
      [considered({ limit: 0, count: 0, remaining: 0 }, {}), 'everything is denied'],
      [considered({ limit: null }), null],
    ];
    for (const [one, words] of cases) expect(usageInWords(one)).toBe(words);
    expect(usageInWords(considered({ limit: 10, count: 0 }, {}), true)).toBe('10 requests, usage unknown');
  });

  it('says which share of it a priority class may use', () => {
    expect(shareInWords(considered({ limit: 500, share: 0.5 }, { limit: 1_000 }), 'batch')).toBe(
      'Priority class batch may use 50 % of 1,000',
    );
    expect(shareInWords(considered({ limit: 7, share: 0.07 }), 'batch')).toBe(
      'Priority class batch may use 7 %',
    );
    expect(shareInWords(considered({ limit: 10 }), 'batch')).toBeNull();
  });

  it('denies only where it is enforced', () => {
    expect(verdictOf(considered({ limit: 10 }))).toBe('allows');
    expect(verdictOf(considered({ limit: 10, retryAfterMs: 20 }))).toBe('denies');
    expect(verdictOf(considered({ limit: 10, retryAfterMs: 20 }, { mode: 'shadow' }))).toBe('would deny');
  });
});

describe('the verdict', () => {
  const one = considered({ limit: 10 });
  it('says what decides, and why', () => {
    expect(verdictInWords(explanationOf('p', []), one)).toBe('Closest limit: p.');
    expect(verdictInWords({ ...explanationOf('p', []), allowed: false, reason: 'banned' }, one)).toBe(
      'The policy denies every check. Decided by policy p.',
    );
    expect(verdictInWords(explanationOf(null, []), null)).toBe(
      'No policy limits this check, so it is allowed.',
    );
    const revoked = { ...explanationOf(null, []), allowed: false, reason: 'api_key_revoked' };
    expect(verdictInWords(revoked, null)).toBe('The API key was revoked.');
  });
});

describe('what a check was resolved to', () => {
  const check: Check = { userId: 'alice', modelId: 'gpt-4', tenantId: 'sent', apiKey: 'tg_live_secret' };
  const lines = resolvedOf(check, { ...explanationOf(null, []), subject: { ...SUBJECT, apiKey: 'key-1' } });
  const sourceOf = (name: string): unknown => lines.find((line) => line.name === name)?.source;

  it('says what the check named, and what the catalog added or put in its place', () => {
    expect(sourceOf('user')).toBe('from the check');
    expect(sourceOf('tier')).toBe('from the catalog');
    expect(sourceOf('tenant')).toBe('from the catalog');
    expect(sourceOf('API key')).toBe('from the catalog');
    expect(sourceOf('service')).toBeNull();
  });

  it('says what the catalog does not know', () => {
    const unknown = resolvedOf(
      { ...check, attributes: { region: 'eu' } },
      {
        ...explanationOf(null, []),
        subject: { ...SUBJECT, tier: 'default' },
        userKnown: false,
        tenantKnown: false,
        tierSource: 'default',
      },
    );
    const found = Object.fromEntries(unknown.map(({ name, source }) => [name, source]));
    expect(found).toMatchObject({
      user: 'unknown user',
      tenant: 'unknown tenant',
      tier: 'default: the catalog has no tier for it',
      region: 'from the check',
    });
  });

  it('never holds the API key itself', () => {
    expect(JSON.stringify(lines)).not.toContain('secret');
  });

  it('knows the hash that stands for a key that the catalog does not know', () => {
    expect(isHash('8806eac29e7ddc823fc96adf2f418aa2a6cb1ec0b5fcb7cce06cc8697e2c11fe')).toBe(true);
    expect(isHash('key-1')).toBe(false);
  });
});

describe('a count of policies', () => {
  it('says how many a search finds', () => {
    expect(countInWords(1_000, 1_000, false)).toBe('1,000');
    expect(countInWords(1_000, 7, true)).toBe('7 of 1,000');
  });
});
