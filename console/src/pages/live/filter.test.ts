import { describe, expect, it } from 'vitest';

import type { DecisionEvent, EventFilter } from '../../api/events';
import { filterOfQuery, isFiltered, isNarrower, isSame, meets, NO_FILTER } from './filter';
import { decisionOf } from './fixtures';

function filterOf(change: Partial<EventFilter>): EventFilter {
  return { ...NO_FILTER, ...change };
}

describe('the filter in the address', () => {
  it('is read as it was written', () => {
    const cases: [string, Partial<EventFilter>][] = [
      ['', {}],
      ['allowed=false&policy=a%26b&user=%C3%A9ve', { allowed: 'false', policy: 'a&b', user: 'éve' }],
      ['allowed=maybe', {}],
      ['model=gpt-4&tenant=acme&other=1', { model: 'gpt-4', tenant: 'acme' }],
    ];
    for (const [query, expected] of cases) {
      expect(filterOfQuery(new URLSearchParams(query))).toEqual(filterOf(expected));
    }
  });

  it('filters once anything is named', () => {
    expect(isFiltered(NO_FILTER)).toBe(false);
    expect(isFiltered(filterOf({ tenant: 'acme' }))).toBe(true);
    expect(isSame(filterOf({ user: 'a' }), filterOf({ user: 'b' }))).toBe(false);
  });
});

describe('a narrower filter', () => {
  it('is one that asks no less of anything', () => {
    const cases: [Partial<EventFilter>, Partial<EventFilter>, boolean][] = [
      [{}, { user: 'alice' }, true],
      [{ user: 'alice' }, { user: 'alice', allowed: 'false' }, true],
      [{ user: 'alice' }, {}, false],
      [{ user: 'alice' }, { user: 'bob' }, false],
      [{ user: 'alice' }, { model: 'gpt-4' }, false],
    ];
    for (const [before, next, expected] of cases) {
      expect(isNarrower(filterOf(before), filterOf(next))).toBe(expected);
    }
  });
});

describe('a decision', () => {
  it('meets a filter if it meets all of it', () => {
    const cases: [Partial<DecisionEvent>, Partial<EventFilter>, boolean][] = [
      [{}, {}, true],
      [{ allowed: false }, { allowed: 'false' }, true],
      [{ allowed: false }, { allowed: 'true' }, false],
      [{ policyId: null }, { policy: 'default' }, false],
      [{}, { user: 'alice', model: 'gpt-4' }, true],
      [{}, { user: 'alice', model: 'gpt-3' }, false],
      [{ subject: { user: 'a', tenant: null } }, { tenant: 'acme' }, false],
    ];
    for (const [decision, filter, expected] of cases) {
      expect(meets(decisionOf(decision), filterOf(filter))).toBe(expected);
    }
  });
});
