/** A labelled text field, alone (`Field`) or bound to a form (`FormField`). */
import { useId } from 'react';
import {
  useController,
  type Control,
  type FieldPath,
  type FieldValues,
  type RegisterOptions,
} from 'react-hook-form';
import { FieldError } from 'react-aria-components/FieldError';
import { Input } from 'react-aria-components/Input';
import { Label } from 'react-aria-components/Label';
import { Text } from 'react-aria-components/Text';
import { TextField, type TextFieldProps } from 'react-aria-components/TextField';

import { cx } from './cx';
import styles from './Field.module.css';
import { Suggestions } from './Suggestions';

export interface FieldProps extends Omit<TextFieldProps, 'className' | 'style' | 'children'> {
  label: string;
  /** Below the field: what it is for. */
  hint?: string | undefined;
  /** What is wrong; null if nothing is. */
  error?: string | null | undefined;
  placeholder?: string | undefined;
  inputMode?: 'text' | 'numeric' | 'decimal';
  inputRef?: React.Ref<HTMLInputElement>;
  /** Offered while one types; anything else may be typed too. */
  suggestions?: readonly string[] | undefined;
}

export function Field({
  label,
  hint,
  error,
  placeholder,
  inputRef,
  suggestions,
  ...props
}: FieldProps): React.JSX.Element {
  const listId = useId();
  const isWrong = error !== undefined && error !== null;
  return (
    <TextField {...props} className={cx(styles.field)} isInvalid={isWrong} validationBehavior="aria">
      <Label className={styles.label}>{label}</Label>
      <Input
        className={cx(styles.input)}
        ref={inputRef}
        list={suggestions === undefined ? undefined : listId}
        {...(placeholder === undefined ? {} : { placeholder })}
      />
      {suggestions !== undefined && <Suggestions id={listId} values={suggestions} />}
      {hint !== undefined && !isWrong && (
        <Text slot="description" className={styles.hint}>
          {hint}
        </Text>
      )}
      <FieldError className={cx(styles.error)}>{error}</FieldError>
    </TextField>
  );
}

export type FormFieldProps<Values extends FieldValues> = Omit<
  FieldProps,
  'name' | 'value' | 'defaultValue' | 'onChange' | 'onBlur' | 'error' | 'inputRef'
> & {
  control: Control<Values>;
  name: FieldPath<Values>;
  rules?: Omit<
    RegisterOptions<Values, FieldPath<Values>>,
    'valueAsNumber' | 'valueAsDate' | 'setValueAs' | 'disabled'
  >;
};

export function FormField<Values extends FieldValues>({
  control,
  name,
  rules,
  ...props
}: FormFieldProps<Values>): React.JSX.Element {
  const { field, fieldState } = useController<Values>({
    control,
    name,
    ...(rules === undefined ? {} : { rules }),
  });
  return (
    <Field
      {...props}
      name={field.name}
      value={field.value}
      onChange={field.onChange}
      onBlur={field.onBlur}
      inputRef={field.ref}
      error={fieldState.error?.message ?? null}
    />
  );
}
