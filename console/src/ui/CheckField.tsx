/** A labelled box to tick. */
import { useId } from 'react';

import styles from './CheckField.module.css';

export interface CheckFieldProps {
  label: string;
  isSelected: boolean;
  onChange: (isSelected: boolean) => void;
  hint?: string | undefined;
  isDisabled?: boolean;
}

export function CheckField(props: CheckFieldProps): React.JSX.Element {
  const { label, isSelected, onChange, hint, isDisabled = false } = props;
  const id = useId();
  return (
    <div className={styles.check}>
      <input
        id={id}
        type="checkbox"
        checked={isSelected}
        disabled={isDisabled}
        aria-describedby={hint === undefined ? undefined : `${id}-hint`}
        onChange={(event) => onChange(event.target.checked)}
      />
      <label htmlFor={id}>{label}</label>
      {hint !== undefined && (
        <span id={`${id}-hint`} className={styles.hint}>
          {hint}
        </span>
      )}
    </div>
  );
}
