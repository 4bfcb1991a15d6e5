import { describe, expect, it } from 'vitest';

import { changeInWords, changeNumber, isAuditKind, sinceThen, type Change } from './change';

const ALICE = { id: 'alice', name: 'Alice', tenantId: 'acme' };

function change(id: number, before: object | null, after: object | null): Change {
  const action = before === null ? 'create' : after === null ? 'delete' : 'update';
  return {
    id,
    at: 0,
    actor: 'admin',
    action,
    kind: 'user',
    recordId: 'alice',
    before,
    after,
  } as Change;
}

describe('a change in words', () => {
  it.each<[string, object | null, object | null, string]>([
    ['what a new record is', null, ALICE, 'name Alice, tenantId acme'],
    ['no name that repeats the id', null, { ...ALICE, name: 'alice' }, 'tenantId acme'],
    ['what a deleted record was', ALICE, null, 'name Alice, tenantId acme'],
    ['what changed', ALICE, { ...ALICE, tier: 'pro', name: 'A' }, 'name Alice → A, tier set to pro'],
    ['that nothing did', ALICE, ALICE, 'no field changed'],
    ['three fields at most', null, { id: 'x', a: 1, b: 2, c: 3, d: 4, e: 5 }, 'a 1, b 2, c 3 and 2 more'],
    ['nothing of a record that is only an id', null, { id: 'x', name: 'x' }, ''],
  ])('says %s', (_, before, after, words) => {
    expect(changeInWords(change(1, before, after))).toBe(words);
  });
});

describe('what became of a record', () => {
  const first = change(7, null, ALICE);
  it.each<[string, Change, string]>([
    ['nothing', first, 'unchanged'],
    ['another change', change(9, ALICE, { ...ALICE, tier: 'pro' }), 'changed'],
    ['its end', change(9, ALICE, null), 'deleted'],
    ['its being made anew', change(11, null, ALICE), 'changed'],
  ])('is told by the newest change: %s', (_, newest, since) => {
    expect(sinceThen(first, newest)).toBe(since);
  });

  it('is deleted by the deletion itself', () => {
    const last = change(9, ALICE, null);
    expect(sinceThen(last, last)).toBe('deleted');
  });
});

describe('an address', () => {
  it.each([
    ['10082', 10_082],
    ['', null],
    ['-1', null],
    ['1e3', null],
    ['1234567890123456', null],
  ])('names with %j the change %s', (text, number) => {
    expect(changeNumber(text)).toBe(number);
  });

  it('names a kind as the log does', () => {
    expect(isAuditKind('apiKey')).toBe(true);
    for (const other of ['', 'api-keys', 'toString']) expect(isAuditKind(other)).toBe(false);
  });
});
