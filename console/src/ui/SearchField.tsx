/** A search that waits for a pause in typing before it is heard. */
import { useEffect, useState } from 'react';

import { Field } from './Field';

const PAUSE_MS = 200;

export interface SearchFieldProps {
  label: string;
  value: string;
  onChange: (value: string) => void;
  placeholder?: string;
  suggestions?: readonly string[];
}

export function SearchField(props: SearchFieldProps): React.JSX.Element {
  const { label, value, onChange, placeholder, suggestions } = props;
  const [text, setText] = useState(value);
  const [known, setKnown] = useState(value);
  const [sent, setSent] = useState(value);
  if (known !== value) {
    setKnown(value);
    // What was sent comes back while more is typed; anything else was changed from outside, by the address for one.
    if (value !== sent) setText(value);
  }
  useEffect(() => {
    if (text === value) return undefined;
    const timer = window.setTimeout(() => {
      setSent(text);
      onChange(text);
    }, PAUSE_MS);
    return () => window.clearTimeout(timer);
  }, [text, value, onChange]);
  return (
    <Field
      label={label}
      type="search"
      value={text}
      onChange={setText}
      suggestions={suggestions}
      placeholder={placeholder}
    />
  );
}
