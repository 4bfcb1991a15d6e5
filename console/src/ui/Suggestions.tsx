/** What a field with this `list` may offer; anything else may be typed too. */
export function Suggestions({ id, values }: { id: string; values: readonly string[] }): React.JSX.Element {
  return (
    <datalist id={id}>
      {values.map((value) => (
        <option key={value} value={value} />
      ))}
    </datalist>
  );
}
