import { describe, expect, it } from 'vitest';

import { addressOf, idOfAddress, recordPath, userAddress } from './admin';

describe('the address of a record', () => {
  it('is its id, and of a user its tenant too', () => {
    expect(addressOf('tenants', { id: 't' })).toBe('t');
    expect(addressOf('api-keys', { id: 'k', tenantId: 't' })).toBe('k');
    expect(recordPath('users', addressOf('users', { id: 'a/b', tenantId: 't&1' }))).toBe(
      '/admin/users/a%2Fb?tenantId=t%261',
    );
    expect(recordPath('users', 'ann')).toBe('/admin/users/ann');
    expect(idOfAddress(userAddress('t', 'ann'))).toBe('ann');
    expect(idOfAddress('ann')).toBe('ann');
  });
});
