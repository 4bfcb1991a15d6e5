import { describe, expect, it } from 'vitest';

import {
  givenBackInWords,
  hasShare,
  holderInWords,
  holdInWords,
  type LiveHold,
  type LiveLease,
} from './lease';

const SLOT: LiveHold = { policyId: 'parallel', unit: 'concurrency', reserved: 1, used: null };

function tokens(reserved: number, used: number | null): LiveHold {
  return { policyId: 'tokens', unit: 'output_tokens', reserved, used };
}

function lease(limits: LiveHold[]): LiveLease {
  return { id: 'm1', tenant: null, user: 'alice', model: 'gpt-4', ageMs: 1, livesForMs: 1, limits };
}

describe('a live lease in words', () => {
  it('says what was used of what is held', () => {
    expect(holdInWords(tokens(1_200, 25))).toBe('25 of 1,200 output tokens used');
    expect(holdInWords(tokens(1, 0))).toBe('0 of 1 output token used');
  });

  it('says what was used where nothing was reserved', () => {
    expect(holdInWords(tokens(0, 550))).toBe('550 output tokens used, none reserved');
    expect(holdInWords(tokens(0, 1))).toBe('1 output token used, none reserved');
    expect(holdInWords(tokens(0, 0))).toBe('0 of 0 output tokens used');
    expect([tokens(0, 550), tokens(0, null), tokens(1, 550), tokens(9, 3)].map(hasShare)).toEqual([
      false,
      false,
      true,
      true,
    ]);
  });

  it('says where nobody has reported what was used', () => {
    expect(holdInWords(tokens(40, null))).toBe('40 output tokens, no usage reported');
    expect(holdInWords(SLOT)).toBe('1 slot');
    expect(holdInWords({ ...SLOT, reserved: 3 })).toBe('3 slots');
  });

  it('names its holder as far as the check did', () => {
    expect(holderInWords({ user: 'alice', model: 'gpt-4' })).toBe('alice, gpt-4');
    expect(holderInWords({ user: null, model: 'gpt-4' })).toBe('gpt-4');
    expect(holderInWords({ user: null, model: null })).toBe('no user and no model');
  });

  it('says once what several limits of a unit get back', () => {
    expect(givenBackInWords(lease([SLOT, tokens(40, null), tokens(30, null)]))).toBe(
      '1 slot and 40 output tokens',
    );
    expect(givenBackInWords(lease([tokens(40, 3)]))).toBe('40 output tokens');
    expect(givenBackInWords(lease([tokens(0, null)]))).toBe('nothing');
  });
});
