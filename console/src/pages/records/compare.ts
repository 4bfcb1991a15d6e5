/** Two versions of a record, field by field. */

export type Difference = 'same' | 'added' | 'removed' | 'changed';

export interface ComparedField {
  /** `match.tier`, `windowSeconds`. */
  path: string;
  /** As it is written in JSON; null where the version has no such field. */
  before: string | null;
  after: string | null;
  difference: Difference;
}

type Fields = Map<string, string>;

function flatten(value: unknown, path: string, fields: Fields): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const entries = Object.entries(value);
    for (const [name, inner] of entries) flatten(inner, path === '' ? name : `${path}.${name}`, fields);
    if (entries.length === 0 && path !== '') fields.set(path, '{}');
  } else if (value !== undefined) {
    fields.set(path, typeof value === 'string' ? value : JSON.stringify(value).replaceAll(',', ', '));
  }
  return fields;
}

function difference(before: string | null, after: string | null): Difference {
  if (before === after) return 'same';
  if (before === null) return 'added';
  return after === null ? 'removed' : 'changed';
}

/** Every field of `before` and `after`, either of which may be null for a record that is not there. */
export function compare(before: object | null, after: object | null): ComparedField[] {
  const [left, right] = [flatten(before ?? {}, '', new Map()), flatten(after ?? {}, '', new Map())];
  return [...new Set([...left.keys(), ...right.keys()])].map((path) => {
    const [old, now] = [left.get(path) ?? null, right.get(path) ?? null];
    return { path, before: old, after: now, difference: difference(old, now) };
  });
}

/** `limit 20 → 25`, for a line of a table; what changed, and at most `max` of it. */
export function changesInWords(before: object | null, after: object | null, max = 3): string {
  const changed = compare(before, after).filter((field) => field.difference !== 'same');
  const words = changed.slice(0, max).map((field) => {
    if (field.before === null) return `${field.path} set to ${field.after ?? ''}`;
    if (field.after === null) return `${field.path} ${field.before} removed`;
    return `${field.path} ${field.before} → ${field.after}`;
  });
  const rest = changed.length - words.length;
  return rest > 0 ? `${words.join(', ')} and ${rest} more` : words.join(', ');
}
