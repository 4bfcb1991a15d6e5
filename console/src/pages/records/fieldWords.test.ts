import { describe, expect, it } from 'vitest';

import { problemInWords } from './fieldWords';

const PROBLEM = { field: 'x', problem: 'is odd', accepted: 'what is even' };

describe('what is wrong with a field', () => {
  it.each([
    ['id', '', 'Enter an ID.'],
    ['id', '..', 'Choose another ID: "." and ".." are reserved.'],
    ['id', 'é'.repeat(200), 'Too long: 400 bytes, at most 256.'],
    ['name', 'a\nb', 'Remove the line break or other control character.'],
    ['tenantId', ' ', 'Enter a tenant.'],
    ['user', '', 'Enter a user.'],
    ['amount', '', 'Enter a limit.'],
    ['amount', 'many', 'Enter a whole number.'],
    ['amount', '1.5', 'Enter a whole number.'],
    ['amount', '-1', 'Enter 0 or more.'],
    ['amount', '9007199254740992', 'Enter at most 9,007,199,254,740,991.'],
    ['window', '', 'Enter a window.'],
    ['window', 'long', 'Enter a number.'],
    ['window', '0', 'Enter a window of 0.001 seconds to 366 days.'],
    ['shares.batch', '120', 'Enter a percentage from 0 to 100.'],
    ['expiresAt', 'tomorrow', 'Enter a date up to the year 2554, such as 2030-12-31 or 2030-12-31 18:00.'],
    ['ip', 'nowhere', 'Enter an IPv4 or IPv6 address.'],
    ['cost.1.unit', 'Tok', 'Use lower-case letters, digits and _, starting with a letter.'],
    ['attributes.0.name', '', 'Enter a name.'],
    ['conditions.0.values', [], 'Enter at least one value.'],
  ])('at %s with %j is said by the form', (path, value, words) => {
    expect(problemInWords(path, value, PROBLEM)).toBe(words);
  });

  it('is an unknown record where the server does not know it', () => {
    const problem = { ...PROBLEM, problem: 'there is no tenant "a \\"b\\""' };
    expect(problemInWords('tenantId', 'a "b"', problem)).toBe('Unknown tenant "a "b"".');
    const other = { ...PROBLEM, problem: 'is a user of another tenant' };
    expect(problemInWords('userId', 'bob', other)).toBe('This user belongs to another tenant.');
  });

  it.each([
    ['id', 'fine'],
    ['tier', 'pro'],
    ['shares.batch', '90'],
    ['scope', 'USER'],
    ['conditions.0.values', ['x']],
  ])('at %s with %j is said by the server where the form cannot tell', (path, value) => {
    expect(problemInWords(path, value, PROBLEM)).toBe('Is odd. Accepted: what is even.');
  });
});
