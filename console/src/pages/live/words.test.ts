import { describe, expect, it } from 'vitest';

import { decisionOf } from './fixtures';
import {
  detailsOf,
  explainAddress,
  explainDecisionAddress,
  formatMicros,
  formatRate,
  formatShare,
  noteOf,
  usageOf,
} from './words';

describe('figures', () => {
  it('are as exact as they can be read', () => {
    const cases: [string, string][] = [
      [formatRate(null), '–'],
      [formatRate(0), '0'],
      [formatRate(0.44), '0.4'],
      [formatRate(12.4), '12'],
      [formatRate(1_203.6), '1,204'],
      [formatMicros(null), '–'],
      [formatMicros(0.5), '0.5 µs'],
      [formatMicros(250), '250 µs'],
      [formatMicros(2_500), '2.5 ms'],
      [formatMicros(1_200_000), '1.2 s'],
      [formatShare(null), '–'],
      [formatShare(0), '0 %'],
      [formatShare(0.0004), '< 0.1 %'],
      [formatShare(0.123), '12.3 %'],
      [formatShare(0.9999), '> 99.9 %'],
      [formatShare(1), '100 %'],
    ];
    for (const [said, expected] of cases) expect(said).toBe(expected);
  });
});

describe('a decision', () => {
  it('says why it was denied, and what was odd about it', () => {
    expect(noteOf(decisionOf())).toBe('');
    const denied = { reason: 'limit_exceeded', needed: 2_100, remaining: 1_439 };
    expect(noteOf(decisionOf(denied))).toBe('Needed 2,100; 1,439 left');
    expect(noteOf(decisionOf({ reason: 'limit_exceeded', needed: null }))).toBe('limit used up');
    expect(noteOf(decisionOf({ reason: 'some_new_reason' }))).toBe('some new reason');
    expect(noteOf(decisionOf({ degraded: true }))).toBe('without the store');
    expect(noteOf(decisionOf({ policyId: null }))).toBe('no limit');
  });

  it('says what is used only where that is known', () => {
    expect(usageOf(decisionOf({ count: 3, limit: 1_000 }))).toBe('3 of 1,000');
    expect(usageOf(decisionOf({ count: 0, limit: 1_000, degraded: true }))).toBe('usage unknown');
    expect(usageOf(decisionOf({ limit: null }))).toBe('');
  });

  it('names what else it was about', () => {
    expect(detailsOf({ user: 'a', model: 'b', tenant: null, ip: '::1', apiKey: 'tg_live_3f' })).toBe(
      'IP ::1, API key tg_live_3f',
    );
  });
});

describe('the address of Explain', () => {
  it('fills in what it takes', () => {
    const subject = { user: 'a&b', model: 'gpt-4', tenant: null, apiKey: 'tg_live_3f', tier: 'default' };
    expect(explainAddress(subject)).toBe('/explain?user=a%26b&model=gpt-4');
    expect(explainAddress({ user: 'a', model: 'b', tier: 'free', region: 'eu' })).toBe(
      '/explain?user=a&model=b&attribute=tier%3Dfree&attribute=region%3Deu',
    );
    expect(explainAddress({ tenant: 'acme' })).toBe('/explain?user=&model=&tenant=acme');
  });

  it('for a decision has its cost and what was decided', () => {
    const address = explainDecisionAddress(decisionOf({ cost: { requests: 1, tokens: 2_100 } }));
    expect(address).toMatch(/^\/explain\?user=alice&model=gpt-4&cost=tokens%3D2100&decision=/u);
  });
});
