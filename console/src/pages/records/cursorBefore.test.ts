import { describe, expect, it } from 'vitest';

import { cursorBefore } from './cursorBefore';

/** The order of the server's lists. */
function isAfter(id: string, cursor: string | null): boolean {
  return cursor === null || Buffer.compare(Buffer.from(id), Buffer.from(cursor)) > 0;
}

describe('cursorBefore', () => {
  it.each(['a', 'acme', 'acme 1', ' ', 'é', '\u00a0x', 'x\u00a0', '日本', '🙂', '\ue000', 'x '])(
    'comes before every id that starts with %j',
    (prefix) => {
      const cursor = cursorBefore(prefix);
      expect(isAfter(prefix, cursor)).toBe(true);
      expect(isAfter(`${prefix}0`, cursor)).toBe(true);
    },
  );

  it('leaves out what is less', () => {
    for (const less of ['acm', 'acmd', 'acmd🙂', 'abzz'])
      expect(isAfter(less, cursorBefore('acme'))).toBe(false);
  });

  it('is the start of the list for no text', () => {
    expect(cursorBefore('')).toBeNull();
  });
});
