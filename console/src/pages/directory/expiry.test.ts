import { describe, expect, it } from 'vitest';

import { distanceInWords, expiryInDays, expiryOfText, textOfExpiry, untilInWords } from './expiry';

const NOW_MS = Date.parse('2026-11-21T09:30:45.123Z');

describe('the end of a key, as it is typed', () => {
  it.each([
    ['2027-01-31T18:00:00Z', '2027-01-31 18:00'],
    ['2027-01-31T18:00:05Z', '2027-01-31 18:00:05'],
    ['2027-01-31T18:00:05.25Z', '2027-01-31 18:00:05.25'],
  ])('shows %s as %s, and sends the same again', (sent, shown) => {
    expect(textOfExpiry(sent)).toBe(shown);
    expect(expiryOfText(shown)).toBe(sent);
  });

  it.each([
    ['2027-01-31', '2027-01-31T00:00:00Z'],
    [' 2027-01-31T18:00 ', '2027-01-31T18:00:00Z'],
    ['2027-01-31T18:00:00+02:00', '2027-01-31T18:00:00+02:00'],
    ['tomorrow', 'tomorrow'],
    ['', ''],
  ])('sends %j as %j', (typed, sent) => {
    expect(expiryOfText(typed)).toBe(sent);
  });

  it('has none for a key without', () => {
    expect(textOfExpiry(undefined)).toBe('');
  });

  it('is so many days from now', () => {
    expect(expiryInDays(90, NOW_MS)).toBe('2027-02-19 09:30');
  });
});

describe('in words', () => {
  it.each([
    ['2027-01-31T00:00:00Z', 'in 71 days'],
    ['2026-11-21T06:30:00Z', '3 hours ago'],
    ['2029-01-01T00:00:00Z', 'in 2 years'],
    ['2027-02-19T09:30:00Z', 'in 90 days'],
    ['2026-11-22T12:00:00Z', 'in 26 hours'],
    ['2026-11-21T09:31:00Z', 'in 15 seconds'],
  ])('%s is %s', (at, words) => {
    expect(distanceInWords(NOW_MS, Date.parse(at))).toBe(words);
  });

  it('says whether it never ends, will end or has ended', () => {
    expect(untilInWords('', NOW_MS)).toBe('It never expires.');
    expect(untilInWords('2027-01-31', NOW_MS)).toMatch(/^It expires in 71 days, at .* your time\.$/u);
    expect(untilInWords('2026-11-19', NOW_MS)).toMatch(/^It expired 2 days ago/u);
  });

  it('says nothing of what is no moment: the server will', () => {
    expect(untilInWords('tomorrow', NOW_MS)).toBe('');
  });
});
