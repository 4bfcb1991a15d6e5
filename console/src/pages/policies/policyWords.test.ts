import { describe, expect, it } from 'vitest';

import type { Policy } from './policy';
import { listed, policyInWords, windowInWords } from './policyWords';

const BASE: Policy = { id: 'p', scope: 'USER', limit: 10, windowSeconds: 60 };

function headlineOf(change: Partial<Policy>): string | null {
  return policyInWords({ ...BASE, ...change }).headline;
}

function notesOf(change: Partial<Policy>): string {
  return policyInWords({ ...BASE, ...change }).notes.join('\n');
}

describe('the headline of a policy', () => {
  it.each<[string, Partial<Policy>]>([
    ['each user: 10 requests a minute', {}],
    ['each user and model: 10 requests a minute', { scope: 'USER_MODEL' }],
    ['each service and user: 10 requests a minute', { scope: 'SERVICE' }],
    ['all checks together: 10 requests a minute', { scope: 'GLOBAL' }],
    ['each tenant, model and region: 10 requests a minute', per('tenant', 'model', 'region')],
    ['each IP address: 10 requests a minute', { scope: 'IP' }],
    ['each API key and model tier: 10 requests a minute', per('apiKey', 'modelTier')],
  ])('names what is counted for: %s', (words, change) => {
    expect(headlineOf(change)).toBe(words);
  });

  function per(...attributes: string[]): Partial<Policy> {
    // Spread over the base, `per` must win over its scope, as it does where one alone is given.
    return { per: attributes };
  }

  it.each<[string, Partial<Policy>]>([
    [
      'each user of tier free: 10 requests a minute on service payments',
      { scope: 'SERVICE', match: { service: 'payments', tier: 'free' } },
    ],
    ['each user of tiers free or pro: 10 requests a minute', { match: { tier: ['free', 'pro'] } }],
    [
      'each user of tier free and tenant acme: 10 requests a minute',
      { match: { tier: 'free', tenant: 'acme' } },
    ],
    ['user alice: 10 requests a minute', { match: { user: 'alice' } }],
    ['user alice: 10 requests a minute', { match: { user: ['alice'] } }],
    ['user alice of tenant acme: 10 requests a minute', { match: { tenant: 'acme', user: 'alice' } }],
    ['each user (alice or bob): 10 requests a minute', { match: { user: ['alice', 'bob'] } }],
    [
      'users alice or bob together: 10 requests a minute',
      { scope: 'GLOBAL', match: { user: ['alice', 'bob'] } },
    ],
    ['all of tier free together: 10 requests a minute', { scope: 'GLOBAL', match: { tier: 'free' } }],
    ['tenant acme: 10 requests a minute', { scope: 'TENANT', match: { tenant: 'acme' } }],
    [
      'each model of tenant acme: 10 requests a minute on models gpt-4 or gpt-4o',
      { per: ['tenant', 'model'], match: { tenant: 'acme', model: ['gpt-4', 'gpt-4o'] } },
    ],
    [
      'all checks together: 10 requests a minute on model gpt-4',
      { scope: 'MODEL', match: { model: 'gpt-4' } },
    ],
    ['each user: 10 requests a minute on models of tier premium', { match: { modelTier: 'premium' } }],
    ['each user: 10 requests a minute on models of tiers a or b', { match: { modelTier: ['a', 'b'] } }],
    [
      'all checks together: 10 requests a minute from IP address 203.0.113.7',
      { scope: 'IP', match: { ip: '203.0.113.7' } },
    ],
    ['each user: 10 requests a minute with region eu', { match: { region: 'eu' } }],
    ['each model: 10 requests a minute on model gpt-4*', { scope: 'MODEL', match: { model: 'gpt-4*' } }],
    [
      'all checks together: 10 requests a minute on model gpt\\*',
      { scope: 'MODEL', match: { model: 'gpt\\*' } },
    ],
    [
      'each IP address: 10 requests a minute from IP address 10.0.0.0/8',
      { scope: 'IP', match: { ip: '10.0.0.0/8' } },
    ],
    [
      'each user: 10 requests a minute with any tenant without region',
      { match: { tenant: { present: true }, region: { absent: true } } },
    ],
    [
      'all checks: no limit of any kind from IP address 192.0.2.1',
      { scope: 'IP', match: { ip: '192.0.2.1' }, limit: null, exempt: 'all' },
    ],
    ['all of tier ops: no limit of any kind', { match: { tier: 'ops' }, limit: null, exempt: 'all' }],
  ])('says whom and what its conditions mean: %s', (words, change) => {
    expect(headlineOf(change)).toBe(words);
  });

  it.each<[string, Partial<Policy>]>([
    ['each user: 1 request a second', { limit: 1, windowSeconds: 1 }],
    ['each user: 150,000 tokens an hour', { limit: 150_000, unit: 'tokens', windowSeconds: 3600 }],
    ['each user: 5 output tokens a day', { limit: 5, unit: 'output_tokens', windowSeconds: 86_400 }],
    ['each user: 10 requests in 90 seconds', { windowSeconds: 90 }],
    [
      'each user: 10 requests per calendar day (Europe/Berlin)',
      { calendar: 'day', timeZone: 'Europe/Berlin' },
    ],
    ['each user: at most 10 leases at a time', { unit: 'concurrency' }],
    ['each user: at most 1 lease at a time', { unit: 'concurrency', limit: 1 }],
    ['each user: no limit of leases', { unit: 'concurrency', limit: null }],
    ['each user: everything is denied', { limit: 0 }],
    ['each user: no limit of requests', { limit: null }],
    ['each user: no limit of tokens', { limit: null, unit: 'tokens' }],
  ])('says how much: %s', (words, change) => {
    expect(headlineOf(change)).toBe(words);
  });

  it('needs no window where nothing is counted', () => {
    const rest: Policy = { id: 'p', scope: 'USER', limit: 10 };
    const ban = policyInWords({ ...rest, limit: 0 });
    expect(ban.headline).toBe('each user: everything is denied');
    expect(ban.notes.join(' ')).toContain('that count requests over any window override it');
    expect(policyInWords({ ...rest, limit: null }).headline).toBe('each user: no limit of requests');
    expect(policyInWords(rest).headline).toBeNull();
  });

  it.each<[string, Partial<Policy>]>([
    ['a limit that is no integer', { limit: 1.5 }],
    ['a limit below zero', { limit: -1 }],
    ['a limit that is not typed yet', { limit: NaN }],
    ['a window of nothing', { windowSeconds: 0 }],
    ['a window that is no number', { windowSeconds: NaN }],
  ])('is silent about %s', (_, change) => {
    expect(headlineOf(change)).toBeNull();
  });

  it('leaves out conditions that are not typed yet', () => {
    expect(headlineOf({ match: { tier: [], '': 'x' } })).toBe('each user: 10 requests a minute');
  });
});

describe('the notes on a policy', () => {
  it.each<[string, string, Partial<Policy>]>([
    ['disabled', 'is disabled', { enabled: false }],
    ['shadow', 'never denies', { mode: 'shadow' }],
    ['exempting', 'lifts the limits of the policies that it overrides', { limit: null }],
    ['exact', 'never more than the limit in any 1 minute', {}],
    ['approximate', 'nearly twice the limit', { algorithm: 'sliding_window_counter' }],
    ['bursty', 'at most 10 at once', { algorithm: 'token_bucket' }],
    [
      'bursty',
      'at most 3 at once, then a steady rate; in the worst case 13',
      { algorithm: 'token_bucket', burst: 3 },
    ],
    [
      'by the calendar',
      'from the start of each month in UTC: shortly before and after that, twice the limit',
      { calendar: 'month' },
    ],
    ['of leases', 'until it is settled or released, or expires', { unit: 'concurrency' }],
    ['overridden', 'Policies by user that limit leases at a time override it', { unit: 'concurrency' }],
    ['failing open', 'allows every check', { onStoreError: 'allow' }],
    ['failing closed', 'denies every check', { onStoreError: 'deny' }],
    ['failing locally', 'its share of the limit', { onStoreError: 'local' }],
    ['lacking', 'does not apply to checks without tenant or region', { per: ['tenant', 'region'] }],
    [
      'overridden',
      'Policies by user that count requests over the same window override it where their conditions apply.',
      {},
    ],
    ['overriding', 'count requests over the same window without conditions', { match: { tier: 'a' } }],
    ['overriding by name', 'it also overrides a and b.', { overrides: ['a', 'b'] }],
    ['exempting from all', 'lifts every limit, bans included', { limit: null, exempt: 'all' }],
    ['ignoring case', 'ignore upper and lower case', { ignoreCase: true }],
    ['overriding more', 'with fewer than 2 conditions', { match: { tier: 'a', model: 'b' } }],
    ['global', 'Policies for all checks together that count tokens', { scope: 'GLOBAL', unit: 'tokens' }],
    ['shared', 'batch up to 50 % (5) and standard up to 80 % (8)', { shares: { batch: 0.5, standard: 0.8 } }],
    [
      'weighted',
      'Of its tokens, one of cached input tokens counts 0.1 and one of output tokens counts 4.',
      { unit: 'tokens', weights: { cached_input_tokens: 0.1, output_tokens: 4 } },
    ],
    ['shared exactly', 'batch up to 7 % (0)', { shares: { batch: 0.07 } }],
  ])('say where it is %s', (_, words, change) => {
    expect(notesOf(change)).toContain(words);
  });

  it.each<[string, string, Partial<Policy>]>([
    ['an attribute that every check has', 'does not apply to', { scope: 'USER_MODEL' }],
    ['the store where the server decides', 'store', {}],
    ['how it counts where it bans', 'Exact', { limit: 0 }],
    ['shares where there is no limit', 'priority', { limit: null, shares: { batch: 0.5 } }],
    ['weights that are not set', 'Of its tokens', { unit: 'tokens', weights: {} }],
    ['shares that are not set', 'priority', { shares: {} }],
    ['shadow where it enforces', 'shadow', { mode: 'enforce' }],
    ['an attribute that must be absent', 'does not apply to', { match: { region: { absent: true } } }],
  ])('are silent about %s', (_, words, change) => {
    expect(notesOf(change)).not.toContain(words);
  });
});

it('lists words as people do', () => {
  expect([listed([]), listed(['a']), listed(['a', 'b']), listed(['a', 'b', 'c'], 'or')]).toEqual([
    '',
    'a',
    'a and b',
    'a, b or c',
  ]);
});

it.each([
  [1, 'a second'],
  [60, 'a minute'],
  [3600, 'an hour'],
  [86_400, 'a day'],
  [120, 'in 2 minutes'],
  [0.5, 'in 0.5 seconds'],
])('says a window of %d s as a rate', (seconds, words) => {
  expect(windowInWords(seconds)).toBe(words);
});
