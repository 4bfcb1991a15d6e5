import { describe, expect, it } from 'vitest';

import { changesInWords, compare } from './compare';

describe('two versions of a record', () => {
  it.each<[string, object | null, object | null, string[]]>([
    ['a change', { id: 'a', limit: 1 }, { id: 'a', limit: 2 }, ['same id a a', 'changed limit 1 2']],
    [
      'a field that came',
      { id: 'a' },
      { id: 'a', mode: 'shadow' },
      ['same id a a', 'added mode null shadow'],
    ],
    ['a field that went', { unit: 'tokens' }, {}, ['removed unit tokens null']],
    ['an exemption', { limit: 1 }, { limit: null }, ['changed limit 1 null']],
    [
      'inside of a map',
      { match: { tier: 'free' } },
      { match: { tier: ['free', 'pro'] } },
      ['changed match.tier free ["free", "pro"]'],
    ],
    ['a record that was made', null, { id: 'a', match: {} }, ['added id null a', 'added match null {}']],
    ['a record that was deleted', { id: 'a' }, null, ['removed id a null']],
    ['nothing at all', null, null, []],
  ])('are compared field by field: %s', (_, before, after, lines) => {
    const shown = compare(before, after).map((field) =>
      [field.difference, field.path, field.before ?? 'null', field.after ?? 'null'].join(' '),
    );
    expect(shown).toEqual(lines);
  });

  it.each<[object | null, object | null, string]>([
    [{ limit: 20 }, { limit: 25 }, 'limit 20 → 25'],
    [{ limit: 20 }, { limit: 25, mode: 'shadow' }, 'limit 20 → 25, mode set to shadow'],
    [{ mode: 'shadow' }, {}, 'mode shadow removed'],
    [{}, { a: 1, b: 2, c: 3, d: 4, e: 5 }, 'a set to 1, b set to 2, c set to 3 and 2 more'],
    [{ a: 1 }, { a: 1 }, ''],
  ])('are told apart in a line', (before, after, words) => {
    expect(changesInWords(before, after)).toBe(words);
  });
});
