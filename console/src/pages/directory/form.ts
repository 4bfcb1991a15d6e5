/** Records whose fields are all texts, as their forms hold them: an empty field is one that the record has not. */

export type TextForm<Name extends string> = Record<Name, string>;

/** The form of `record`; that of a new one for null. */
export function textFormOf<Name extends string>(
  names: readonly Name[],
  record: Readonly<Partial<Record<Name, unknown>>> | null,
): TextForm<Name> {
  const texts = names.map((name) => [name, typeof record?.[name] === 'string' ? record[name] : '']);
  return Object.fromEntries(texts) as TextForm<Name>;
}

/** What a form sends: every field as it was typed, and none for one that is blank. */
export function bodyOfTexts(form: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(form).filter(([, text]) => text.trim() !== ''));
}

/** The form's field for a field that the server names, where both are called the same; null if the form has none. */
export function pathIn(names: readonly string[]): (field: string) => string | null {
  return (field) => (names.includes(field) ? field : null);
}
