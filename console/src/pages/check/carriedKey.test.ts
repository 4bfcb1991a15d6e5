import { describe, expect, it } from 'vitest';

import { carryApiKey, withCarriedKey } from './carriedKey';
import { DEFAULT_FORM } from './check';

describe('an API key that is carried to another page', () => {
  const bob = { ...DEFAULT_FORM, user: 'bob' };

  it('comes with the check that it was given with, and with no other', () => {
    carryApiKey({ ...bob, apiKey: 'tg_live_secret' });
    expect(withCarriedKey(bob).apiKey).toBe('tg_live_secret');
    expect(withCarriedKey(DEFAULT_FORM).apiKey).toBe('');
  });

  it('is forgotten when a check without one is carried', () => {
    carryApiKey({ ...bob, apiKey: 'tg_live_secret' });
    carryApiKey(bob);
    expect(withCarriedKey(bob).apiKey).toBe('');
  });
});
