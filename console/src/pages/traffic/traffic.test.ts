import { describe, expect, it } from 'vitest';

import { denialsOf, stateOf, tokensASecond, withSample, type GatewayTraffic, type Sample } from './traffic';

function gateway(outputSoFar: number): GatewayTraffic {
  return {
    inFlight: 0,
    queues: [],
    models: [{ model: 'gpt', requests: {}, tokens: {}, outputSoFar }],
    upstreams: [],
    denials: { invalid: 2, limited: 7, new_reason: 1 },
  };
}

function sample(atMs: number, outputSoFar: number): Sample {
  return { atMs, gateway: gateway(outputSoFar) };
}

function samples(...all: readonly Sample[]): readonly Sample[] {
  return all.reduce<readonly Sample[]>(withSample, []);
}

describe('tokens a second', () => {
  it('are counted over the samples that are kept', () => {
    expect(tokensASecond([], 'gpt')).toBeNull();
    expect(tokensASecond(samples(sample(0, 5)), 'gpt')).toBeNull();
    expect(tokensASecond(samples(sample(0, 5), sample(2_000, 105)), 'gpt')).toBe(50);
    expect(tokensASecond(samples(sample(0, 5), sample(2_000, 105)), 'other')).toBeNull();
    const many = Array.from({ length: 20 }, (_, second) => sample(second * 1_000, second < 15 ? 0 : 60));
    expect(tokensASecond(samples(...many), 'gpt')).toBe(12);
  });

  it('begin anew when the server has restarted', () => {
    expect(tokensASecond(samples(sample(0, 500), sample(1_000, 10)), 'gpt')).toBeNull();
    expect(samples(sample(0, 500), { atMs: 1_000, gateway: null }, sample(2_000, 10))).toHaveLength(3);
  });
});

it('names the reasons of denials, the most frequent first', () => {
  const reasons = denialsOf(gateway(0)).map(({ words, count }) => `${count}: ${words}`);
  expect(reasons).toEqual(['7: A limit is used up', '2: The request is invalid', '1: new_reason']);
});

it('names a state that it does not know as the server does', () => {
  const upstream = { state: 'sleeping' } as Parameters<typeof stateOf>[0];
  expect(stateOf(upstream)).toEqual({ tone: 'neutral', words: 'sleeping' });
});
