/** Fields bound to a form that show what the server finds wrong, once something was typed or sent. */
import { useMemo } from 'react';
import { useController, useWatch, type Control, type FieldPath, type FieldValues } from 'react-hook-form';

import type { RecordKind } from '../../api/admin';
import type { Filters } from '../../api/records';
import { CheckField } from '../../ui/CheckField';
import { Field, type FieldProps } from '../../ui/Field';
import { SelectField, type Option } from '../../ui/SelectField';
import { TokensField } from '../../ui/TokensField';
import { useProblem } from './problems';
import { useMatches } from './useMatches';

const NO_FILTERS: Filters = {};

interface Bound<Form extends FieldValues> {
  control: Control<Form>;
  name: FieldPath<Form>;
  label: string;
  hint?: string | undefined;
  isDisabled?: boolean;
}

function useBound<Form extends FieldValues>({ control, name }: Bound<Form>) {
  const { field, fieldState, formState } = useController<Form>({ control, name });
  const problem = useProblem(name);
  const isHeard = fieldState.isDirty || fieldState.isTouched || formState.submitCount > 0;
  return { field, error: isHeard ? problem : null };
}

export function TextInput<Form extends FieldValues>({
  control,
  name,
  ...props
}: Bound<Form> & Omit<FieldProps, 'value' | 'onChange' | 'onBlur' | 'name'>): React.JSX.Element {
  const { field, error } = useBound({ control, name, label: props.label });
  const { ref, value, onChange, onBlur } = field;
  return (
    <Field
      {...props}
      autoComplete="off"
      name={name}
      value={value}
      onChange={onChange}
      onBlur={onBlur}
      inputRef={ref}
      error={error}
    />
  );
}

export function SelectInput<Form extends FieldValues>(
  props: Bound<Form> & { options: readonly Option[] },
): React.JSX.Element {
  const { field, error } = useBound(props);
  const { label, hint, options, isDisabled = false } = props;
  return (
    <SelectField
      label={label}
      hint={hint}
      options={options}
      isDisabled={isDisabled}
      value={field.value}
      onChange={field.onChange}
      onBlur={field.onBlur}
      error={error}
    />
  );
}

export function CheckInput<Form extends FieldValues>(props: Bound<Form>): React.JSX.Element {
  const { field } = useController<Form>({ control: props.control, name: props.name });
  const { label, hint, isDisabled = false } = props;
  return (
    <CheckField
      label={label}
      hint={hint}
      isDisabled={isDisabled}
      isSelected={field.value}
      onChange={field.onChange}
    />
  );
}

export function TokensInput<Form extends FieldValues>(
  props: Bound<Form> & { suggestions?: readonly string[] },
): React.JSX.Element {
  const { field, error } = useBound(props);
  const { label, hint, suggestions, isDisabled = false } = props;
  return (
    <TokensField
      label={label}
      hint={hint}
      suggestions={suggestions}
      isDisabled={isDisabled}
      values={field.value as string[]}
      onChange={field.onChange}
      onBlur={field.onBlur}
      error={error}
    />
  );
}

/** The id of another record; those that there are, are offered. */
export function ReferenceInput<Form extends FieldValues>(
  props: Bound<Form> & { of: RecordKind; filters?: Filters; placeholder?: string },
): React.JSX.Element {
  const { of, filters = NO_FILTERS, ...rest } = props;
  const text: string = useWatch({ control: props.control, name: props.name });
  const matches = useMatches({ of, text, filters });
  const ids = useMemo(() => matches.map(({ id }) => id), [matches]);
  return <TextInput {...rest} suggestions={ids} />;
}
