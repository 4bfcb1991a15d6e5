/** A labelled choice of one of a few: the browser's own, which every keyboard and phone knows. */
import { useId } from 'react';

import { cx } from './cx';
import styles from './Field.module.css';

export interface Option {
  value: string;
  label: string;
}

export interface SelectFieldProps {
  label: string;
  value: string;
  options: readonly Option[];
  onChange: (value: string) => void;
  onBlur?: () => void;
  hint?: string | undefined;
  error?: string | null | undefined;
  isDisabled?: boolean;
}

export function SelectField(props: SelectFieldProps): React.JSX.Element {
  const { label, value, options, onChange, onBlur, hint, error, isDisabled = false } = props;
  const id = useId();
  const said = error ?? hint;
  return (
    <div className={styles.field}>
      <label className={styles.label} htmlFor={id}>
        {label}
      </label>
      <select
        id={id}
        className={cx(styles.input)}
        value={value}
        disabled={isDisabled}
        aria-invalid={typeof error === 'string'}
        aria-describedby={said === undefined ? undefined : `${id}-said`}
        onChange={(event) => onChange(event.target.value)}
        onBlur={onBlur}
      >
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
          </option>
        ))}
      </select>
      {said !== undefined && (
        <span id={`${id}-said`} className={typeof error === 'string' ? styles.error : styles.hint}>
          {said}
        </span>
      )}
    </div>
  );
}
