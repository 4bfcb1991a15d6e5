/** Lists are in the order of their ids and start after a cursor: so a cursor can be made that starts at an id. */

const LAST_CODE_POINT = String.fromCodePoint(0x10_ffff);

/** Ids hold no control characters, and UTF-8 has no surrogates. */
function isInIds(codePoint: number): boolean {
  return (
    codePoint >= 0x20 &&
    !(codePoint >= 0x7f && codePoint <= 0x9f) &&
    !(codePoint >= 0xd800 && codePoint <= 0xdfff)
  );
}

/**
 * The cursor after which the ids that start with `prefix` come first, or soon; null for the start of the list. The ids
 * are in the order of their code points.
 */
export function cursorBefore(prefix: string): string | null {
  const points = Array.from(prefix);
  const last = points.pop()?.codePointAt(0);
  if (last === undefined) return null;
  const before = points.join('');
  if (isInIds(last - 1)) return `${before}${String.fromCodePoint(last - 1)}${LAST_CODE_POINT}`;
  // Nothing can stand before the last character: all that has the rest of the prefix is the nearest.
  return before === '' ? null : before;
}
