/** The form of a check, and the buttons that send it. */
import { useEffect, useRef, useState } from 'react';
import { useFieldArray, useForm, useWatch, type Control, type UseFormReturn } from 'react-hook-form';
import { useSearchParams } from 'react-router';

import { ProblemError } from '../../api/problem';
import { Button } from '../../ui/Button';
import { ErrorState } from '../../ui/ErrorState';
import { FormField } from '../../ui/Field';
import { Panel } from '../../ui/Panel';
import {
  checkOf,
  formOfQuery,
  formPathOf,
  hasDetails,
  queryOfForm,
  type Check,
  type CheckForm,
} from './check';
import styles from './Playground.module.css';
import type { Tally } from './record';
import { RunControls } from './RunControls';
import type { Run } from './usePlayground';

/** The address follows what is typed after so long. */
const ADDRESS_DELAY_MS = 300;

/** Keeps the form and the address's query the same, whichever changes. */
function useAddress(form: UseFormReturn<CheckForm>, values: CheckForm): void {
  const [query, setQuery] = useSearchParams();
  const written = useRef(query.toString());
  const { reset } = form;
  const wanted = queryOfForm(values).toString();
  const here = query.toString();
  useEffect(() => {
    // Someone else changed the address: a link was opened, or the history was walked.
    if (here === written.current) return;
    written.current = here;
    reset(formOfQuery(new URLSearchParams(here)));
  }, [here, reset]);
  useEffect(() => {
    if (wanted === written.current) return undefined;
    const timer = window.setTimeout(() => {
      written.current = wanted;
      setQuery(new URLSearchParams(wanted), { replace: true });
    }, ADDRESS_DELAY_MS);
    return () => window.clearTimeout(timer);
  }, [wanted, setQuery]);
}

/** Puts the server's complaints at their fields; what has no field is left to be said elsewhere. */
function useComplaints(form: UseFormReturn<CheckForm>, error: unknown): boolean {
  const { setError, getValues, setFocus } = form;
  const fields = error instanceof ProblemError ? error.errors : [];
  const paths = fields.map(({ field }) => formPathOf(field, getValues()));
  useEffect(() => {
    if (!(error instanceof ProblemError)) return;
    const [first] = error.errors.flatMap(({ field, problem, accepted }) => {
      const path = formPathOf(field, getValues());
      if (path === null) return [];
      setError(path, { message: accepted === '' ? problem : `${problem}; takes ${accepted}` });
      return [path];
    });
    if (first !== undefined) setFocus(first);
  }, [error, getValues, setError, setFocus]);
  return fields.length > 0 && paths.every((path) => path !== null);
}

export interface CheckPanelProps {
  run: Run | null;
  error: unknown;
  tally: Tally;
  onForm: (form: CheckForm) => void;
  onStart: (run: Run, check: Check) => void;
  onStop: () => void;
}

export function CheckPanel({
  run,
  error,
  tally,
  onForm,
  onStart,
  onStop,
}: CheckPanelProps): React.JSX.Element {
  const [query] = useSearchParams();
  const form = useForm<CheckForm>({ defaultValues: formOfQuery(query) });
  const { control, handleSubmit } = form;
  const values = useWatch({ control, compute: (form: CheckForm) => form });
  const [isOpen, setOpen] = useState(() => hasDetails(values));
  useAddress(form, values);
  useEffect(() => onForm(values), [onForm, values]);
  const isAtFields = useComplaints(form, error);
  const begin = (next: Run): void => {
    const valid = (given: CheckForm): void => onStart(next, checkOf(given));
    void handleSubmit(valid, () => setOpen(true))();
  };

  return (
    <Panel title="Check">
      <form
        className={styles.form}
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          begin({ kind: 'one' });
        }}
      >
        <FormField control={control} name="user" label="User" autoComplete="off" />
        <FormField control={control} name="model" label="Model" autoComplete="off" />
        <details
          className={styles.details}
          open={isOpen || (isAtFields && hasDetails(values))}
          onToggle={(event) => setOpen(event.currentTarget.open)}
        >
          <summary>Tenant, API key, service, IP, cost</summary>
          <div className={styles.form}>
            <FormField control={control} name="tenant" label="Tenant" autoComplete="off" />
            <FormField
              control={control}
              name="apiKey"
              label="API key"
              autoComplete="off"
              hint="Left out of the address, which may be shared."
            />
            <FormField control={control} name="service" label="Service" autoComplete="off" />
            <FormField control={control} name="ip" label="IP" autoComplete="off" placeholder="203.0.113.7" />
            <CostRows control={control} />
          </div>
        </details>
        <RunControls run={run} tally={tally} onBegin={begin} onStop={onStop} />
      </form>
      {error !== null && !isAtFields && (
        <div className={styles.problem}>
          <ErrorState error={error} />
        </div>
      )}
    </Panel>
  );
}

const AMOUNT = /^\d{1,16}$/;

function isAmount(text: unknown): boolean {
  return typeof text === 'string' && AMOUNT.test(text) && Number.isSafeInteger(Number(text));
}

function CostRows({ control }: { control: Control<CheckForm> }): React.JSX.Element {
  const { fields, append, remove } = useFieldArray({ control, name: 'cost' });
  return (
    <fieldset className={styles.cost}>
      <legend>Cost</legend>
      {fields.map((row, index) => (
        <div key={row.id} className={styles.costRow}>
          <FormField control={control} name={`cost.${index}.unit`} label="Unit" placeholder="tokens" />
          <FormField
            control={control}
            name={`cost.${index}.amount`}
            label="Amount"
            inputMode="numeric"
            rules={{ validate: (value) => isAmount(value) || 'takes an integer from 0 to 2^53 − 1' }}
          />
          <Button variant="quiet" aria-label={`Remove cost ${index + 1}`} onPress={() => remove(index)}>
            ✕
          </Button>
        </div>
      ))}
      {fields.length === 0 && <p className={styles.note}>One request, unless a row says otherwise.</p>}
      <Button variant="quiet" onPress={() => append({ unit: 'tokens', amount: '1000' })}>
        + Add a cost
      </Button>
    </fieldset>
  );
}
