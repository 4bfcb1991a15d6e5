import { describe, expect, it } from 'vitest';

import {
  changeWords,
  policiesOf,
  subjectCountWords,
  subjectWords,
  timelineSteps,
  timelineWords,
  verdictWords,
} from './whatIf';

describe('the policies of an export', () => {
  it('are its list, wherever that is', () => {
    const file = 'tiers:\n  - id: pro\npolicies:\n  - id: a\n    limit: 1\nusers:\n  - id: ann\n';
    expect(policiesOf(file)).toBe('policies:\n  - id: a\n    limit: 1\n');
    expect(policiesOf('policies:\n- id: a\n')).toBe('policies:\n- id: a\n');
    expect(policiesOf('policies: []\ntiers: []\n')).toBe('policies: []\n');
    expect(policiesOf('tiers: []\n')).toBe('');
  });
});

it('names who it is about', () => {
  expect(subjectWords({ subject: { user: 'ann', tenant: 'acme' } })).toBe('ann of acme');
  expect(subjectWords({ subject: { user: 'ann' } })).toBe('ann');
  expect(subjectWords({ subject: { model: 'gpt-4' } })).toBe('gpt-4');
});

it('says changes with their sign', () => {
  const pairs = [
    { old: 5, new: 3 },
    { old: 3, new: 1_003 },
    { old: 3, new: 3 },
  ];
  expect(pairs.map(changeWords)).toEqual(['-2', '+1,000', '0']);
});

describe('a timeline', () => {
  const steps = [
    { checks: 5, allowed: { old: 5, new: 5 } },
    { checks: 4, allowed: { old: 4, new: 1 } },
  ];

  it('has the time of each step, and what is denied in it', () => {
    const found = timelineSteps({ startAt: '2026-01-01T00:00:00.5Z', stepSeconds: 60, steps });
    const start = Date.UTC(2026, 0, 1) + 500;
    expect(found.map(({ at }) => at)).toEqual([start, start + 60_000]);
    expect(found.map(({ denied }) => denied)).toEqual([
      { old: 0, new: 0 },
      { old: 0, new: 3 },
    ]);
    expect(timelineWords(found)).toMatch(/^In 1 of 2 steps, .* the first begins at .*2026/u);
    expect(timelineWords(found.slice(0, 1))).toBe('In every step, as many checks are allowed now and then.');
  });
});

it('counts those that lose or gain checks and tokens apart', () => {
  const [checks, tokens] = [
    { losing: 1_200, gaining: 2 },
    { losing: 2, gaining: 0 },
  ];
  const counts = 'Checks: 1,200 would lose and 2 would gain. Tokens: 2 would lose and 0 would gain.';
  expect(subjectCountWords({ checks, tokens, mixed: 0 })).toBe(counts);
  expect(subjectCountWords({ checks, tokens, mixed: 1 })).toBe(
    `${counts} 1 of them would lose one and gain the other.`,
  );
});

it('says what decided', () => {
  expect(verdictWords({ allowed: true, policyId: null, reason: null })).toBe('allowed');
  expect(verdictWords({ allowed: false, policyId: 'p', reason: 'banned' })).toBe('denied by p');
  expect(verdictWords({ allowed: false, policyId: null, reason: 'api_key_unknown' })).toBe(
    'denied by api_key_unknown',
  );
});
