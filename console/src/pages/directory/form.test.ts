import { describe, expect, it } from 'vitest';

import { bodyOfTexts, pathIn, textFormOf } from './form';

const NAMES = ['id', 'name', 'tier'] as const;

describe('a form of texts', () => {
  it('sends back what it was made from', () => {
    const record = { id: 'acme', name: 'Acme', tier: 'pro' };
    expect(bodyOfTexts(textFormOf(NAMES, record))).toEqual(record);
  });

  it('leaves out what is blank, so that the record has none of it', () => {
    const form = { ...textFormOf(NAMES, { id: 'acme', name: 'Acme', tier: 'pro' }), tier: ' ' };
    expect(bodyOfTexts(form)).toEqual({ id: 'acme', name: 'Acme' });
  });

  it('is empty for a new record', () => {
    expect(textFormOf(NAMES, null)).toEqual({ id: '', name: '', tier: '' });
    expect(bodyOfTexts(textFormOf(NAMES, null))).toEqual({});
  });

  it('has no place for a problem with a field that it lacks', () => {
    const pathOf = pathIn(NAMES);
    expect(pathOf('tier')).toBe('tier');
    expect(pathOf('priority')).toBeNull();
  });
});
