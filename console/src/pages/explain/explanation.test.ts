import { describe, expect, it } from 'vitest';

import type { Policy } from '../policies/policy';
import {
  denies,
  groupsOf,
  obstaclesOf,
  overridersOf,
  searched,
  type ConsideredPolicy,
  type Explanation,
} from './explanation';
import { consideredOf, explanationOf, SUBJECT } from './fixtures';

function byId(...policies: Policy[]): ReadonlyMap<string, Policy> {
  return new Map(policies.map((policy) => [policy.id, policy]));
}

/** The ids of each group that has any. */
function idsOf(explanation: Explanation, policies = byId()): Record<string, string[]> {
  const { decides, ...lists } = groupsOf(explanation, policies);
  const all = { decides: decides === null ? [] : [decides], ...lists };
  return Object.fromEntries(
    Object.entries(all)
      .filter(([, group]) => group.length > 0)
      .map(([name, group]) => [name, group.map(({ answer }) => answer.policyId)]),
  );
}

describe('groups', () => {
  it('tell apart what decides, applies, is in shadow, exempts, is overridden, does not match, is off', () => {
    const explanation = explanationOf('decides', [
      consideredOf('off', { outcome: 'disabled' }),
      consideredOf('elsewhere', { outcome: 'does_not_apply' }),
      consideredOf('general', { outcome: 'overridden' }),
      consideredOf('free', { outcome: 'exempts' }),
      consideredOf('trial', { limit: 3, count: 3 }),
      consideredOf('beside', { limit: 3, count: 1 }),
      consideredOf('decides', { limit: 3, count: 2 }),
    ]);
    const trial: Policy = { id: 'trial', scope: 'USER', limit: 3, mode: 'shadow' };
    expect(idsOf(explanation, byId(trial))).toEqual({
      decides: ['decides'],
      applies: ['beside'],
      shadow: ['trial'],
      exempts: ['free'],
      overridden: ['general'],
      differs: ['elsewhere'],
      off: ['off'],
    });
  });

  it('are empty where no limit is met', () => {
    expect(idsOf(explanationOf(null, []))).toEqual({});
  });

  it('have those that deny first, then those that are used most', () => {
    const explanation = explanationOf(null, [
      consideredOf('unknown', { limit: 10, count: null }),
      consideredOf('half', { limit: 10, count: 5 }),
      consideredOf('most', { limit: 10, count: 9 }),
      consideredOf('denies', { limit: 100, count: 1, retryAfterMs: 5 }),
    ]);
    expect(idsOf(explanation).applies).toEqual(['denies', 'most', 'half', 'unknown']);
  });

  it('take a policy that is not known for an enforced one', () => {
    expect(idsOf(explanationOf(null, [consideredOf('new', { limit: 1, count: 0 })]))).toEqual({
      applies: ['new'],
    });
  });
});

describe('a limit', () => {
  it('denies what has to wait, and what never passes', () => {
    const cases: [Partial<ConsideredPolicy>, boolean][] = [
      [{ limit: 10, retryAfterMs: 0 }, false],
      [{ limit: 10, retryAfterMs: 1 }, true],
      [{ limit: 10, retryAfterMs: null }, true],
      [{ limit: null, retryAfterMs: null }, false],
    ];
    for (const [change, expected] of cases) expect(denies(consideredOf('p', change))).toBe(expected);
  });
});

describe('what overrides', () => {
  it('is found by the words of the server, whatever the id', () => {
    const explanation = explanationOf(null, [
      consideredOf('general', { outcome: 'overridden', why: '"a \\"b\\"" has more conditions' }),
      consideredOf('a "b"', { limit: 1, count: 0 }),
    ]);
    const found = overridersOf(explanation, byId()).get(explanation.policies[0]?.why ?? '');
    expect(found?.answer.policyId).toBe('a "b"');
  });
});

describe('what keeps a policy from a subject', () => {
  const check = (policy: Partial<Policy>): string[] =>
    obstaclesOf({ id: 'p', limit: 1, ...policy }, SUBJECT).map(
      ({ attribute, accepted, value }) => `${attribute}: ${accepted.join('|')}, is ${value ?? 'absent'}`,
    );

  it('is every condition that does not hold', () => {
    expect(check({ scope: 'USER', match: { tier: ['pro', 'enterprise'], user: 'alice' } })).toEqual([
      'tier: pro|enterprise, is free',
    ]);
    expect(check({ scope: 'USER', match: { service: 'chat', tier: 'pro' } })).toEqual([
      'service: chat, is absent',
      'tier: pro, is free',
    ]);
  });

  it('is an attribute that is counted per and that the subject lacks', () => {
    expect(check({ scope: 'IP' })).toEqual(['ip: , is absent']);
    expect(check({ per: ['region'] })).toEqual(['region: , is absent']);
  });

  it('is none where an attribute of the check meets the condition', () => {
    const policy: Policy = { id: 'p', limit: 1, per: ['region'], match: { plan: 'gold' } };
    expect(obstaclesOf(policy, SUBJECT, { region: 'eu', plan: 'gold' })).toEqual([]);
    expect(obstaclesOf(policy, SUBJECT, { region: 'eu', plan: 'tin' })).toEqual([
      { attribute: 'plan', accepted: ['gold'], value: 'tin' },
    ]);
  });

  it('names an attribute once', () => {
    expect(check({ scope: 'IP', match: { ip: '203.0.113.7' } })).toEqual(['ip: 203.0.113.7, is absent']);
  });

  it('knows an attribute by its own name, not by what every object has', () => {
    expect(check({ per: ['user'], match: { constructor: 'x' } })).toEqual(['constructor: x, is absent']);
  });
});

describe('a search', () => {
  const groups = groupsOf(
    explanationOf('decides', [
      consideredOf('decides', { limit: 3, count: 2 }),
      ...Array.from({ length: 1_000 }, (_, index) =>
        consideredOf(`tenant-${index}`, { outcome: 'does_not_apply', why: 'the subject has no tenant' }),
      ),
    ]),
    byId(),
  );
  const find = (words: string): number =>
    searched(groups, words, ({ answer }) => `${answer.policyId} ${answer.why}`).differs.length;

  it('finds each word anywhere, in any case', () => {
    expect(find('TENANT-77')).toBe(11);
    expect(find('tenant-77 no')).toBe(11);
    expect(find('nothing such')).toBe(0);
    expect(find('  ')).toBe(1_000);
  });

  it('leaves what decides', () => {
    expect(searched(groups, 'nothing such', () => '').decides?.answer.policyId).toBe('decides');
  });
});
