import { describe, expect, it } from 'vitest';

import type { Policy } from '../policies/policy';
import {
  consideredById,
  denies,
  groupsOf,
  obstaclesOf,
  precedenceInWords,
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
  it('is found by its id, and says why', () => {
    const explanation = explanationOf(null, [
      consideredOf('general', {
        outcome: 'overridden',
        why: '"a \\"b\\"" has more conditions',
        overriddenBy: 'a "b"',
      }),
      consideredOf('a "b"', { limit: 1, count: 0 }),
    ]);
    const [overridden] = explanation.policies;
    if (overridden === undefined) throw new Error('there is one');
    const found = consideredById(explanation, byId()).get(overridden.overriddenBy ?? '');
    expect(found?.answer.policyId).toBe('a "b"');
    expect(precedenceInWords(overridden)).toBe('has more conditions');
    expect(precedenceInWords({ ...overridden, overriddenBy: null })).toBe(overridden.why);
  });
});

describe('what keeps a policy from a subject', () => {
  it('is what the server lists, with the condition and what the check has', () => {
    const answer = consideredOf('p', {
      outcome: 'does_not_apply',
      unmet: ['ip', 'tier', 'region', 'constructor'],
    });
    const policy: Policy = {
      id: 'p',
      limit: 1,
      per: ['ip'],
      match: { tier: ['pro', 'max*'], region: { absent: true }, constructor: { present: true as const } },
    };
    expect(obstaclesOf(answer, policy, SUBJECT, { region: 'eu' })).toEqual([
      { attribute: 'ip', condition: null, value: null },
      {
        attribute: 'tier',
        condition: { attribute: 'tier', test: 'values', values: ['pro', 'max*'] },
        value: 'free',
      },
      { attribute: 'region', condition: { attribute: 'region', test: 'absent', values: [] }, value: 'eu' },
      {
        attribute: 'constructor',
        condition: { attribute: 'constructor', test: 'present', values: [] },
        value: null,
      },
    ]);
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
