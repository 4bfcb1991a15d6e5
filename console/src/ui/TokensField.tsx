/** Several short texts in one field: Enter adds one, a press on one's cross or Backspace in the empty field removes. */
import { useId, useRef, useState, type ClipboardEvent, type KeyboardEvent } from 'react';

import { cx } from './cx';
import fieldStyles from './Field.module.css';
import { Suggestions } from './Suggestions';
import styles from './TokensField.module.css';

export interface TokensFieldProps {
  label: string;
  values: readonly string[];
  onChange: (values: string[]) => void;
  onBlur?: () => void;
  suggestions?: readonly string[] | undefined;
  hint?: string | undefined;
  error?: string | null | undefined;
  isDisabled?: boolean;
}

export function TokensField(props: TokensFieldProps): React.JSX.Element {
  const { label, values, onChange, onBlur, suggestions, hint, error, isDisabled = false } = props;
  const [text, setText] = useState('');
  const input = useRef<HTMLInputElement>(null);
  const id = useId();
  const isWrong = typeof error === 'string';
  const said = error ?? hint ?? 'Press Enter to add a value.';

  const add = (added: readonly string[]): void => {
    const fresh = added.map((value) => value.trim()).filter((value) => value !== '');
    onChange([...new Set([...values, ...fresh])]);
    setText('');
  };
  const remove = (value: string): void => {
    onChange(values.filter((one) => one !== value));
    input.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const last = values.at(-1);
    if (event.key === 'Enter' && text.trim() !== '') {
      // Enter in a form would send it.
      event.preventDefault();
      add([text]);
    } else if (event.key === 'Backspace' && text === '' && last !== undefined) {
      remove(last);
    }
  };
  const onPaste = (event: ClipboardEvent): void => {
    const lines = event.clipboardData.getData('text').split(/[\n\t]/u);
    if (lines.length < 2) return;
    event.preventDefault();
    add(lines);
  };
  const leave = (): void => {
    if (text.trim() !== '') add([text]);
    onBlur?.();
  };

  return (
    <div className={fieldStyles.field}>
      <label className={fieldStyles.label} htmlFor={id}>
        {label}
      </label>
      <div className={cx(styles.box, isWrong && styles.wrong)}>
        {values.length > 0 && (
          <ul className={styles.tokens} aria-label={`${label}, chosen`}>
            {values.map((value) => (
              <li key={value} className={styles.token}>
                <span>{value}</span>
                <button
                  type="button"
                  aria-label={`Remove ${value}`}
                  disabled={isDisabled}
                  onClick={() => remove(value)}
                >
                  ✕
                </button>
              </li>
            ))}
          </ul>
        )}
        <input
          ref={input}
          id={id}
          className={styles.input}
          value={text}
          disabled={isDisabled}
          autoComplete="off"
          aria-invalid={isWrong}
          aria-describedby={`${id}-said`}
          list={suggestions === undefined ? undefined : `${id}-list`}
          onChange={(event) => setText(event.target.value)}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
          onBlur={leave}
        />
      </div>
      {suggestions !== undefined && <Suggestions id={`${id}-list`} values={suggestions} />}
      <span id={`${id}-said`} className={isWrong ? fieldStyles.error : fieldStyles.hint}>
        {said}
      </span>
    </div>
  );
}
