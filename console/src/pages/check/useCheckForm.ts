/** The form of a check, which the address holds too, and what the server finds wrong at its fields. */
import { useEffect, useRef, useState } from 'react';
import { useForm, useWatch, type UseFormReturn } from 'react-hook-form';
import { useSearchParams } from 'react-router';

import { ProblemError } from '../../api/problem';
import { problemInWords } from '../records/fieldWords';
import { withCarriedKey } from './carriedKey';
import { formOfQuery, formPathOf, isOfCheck, queryOfForm, type CheckForm } from './check';

/** The address follows what is typed after so long. */
const ADDRESS_DELAY_MS = 300;

/** Keeps the form and its part of the address's query the same, whichever changes. */
function useAddress(
  form: UseFormReturn<CheckForm>,
  values: CheckForm,
  onOpened: ((form: CheckForm) => void) | undefined,
): void {
  const [query, setQuery] = useSearchParams();
  const here = queryOfForm(formOfQuery(query)).toString();
  const written = useRef(here);
  const { reset } = form;
  const wanted = queryOfForm(values).toString();
  useEffect(() => {
    // Someone else changed the address: a link was opened, or the history was walked.
    if (here === written.current) return;
    written.current = here;
    const opened = withCarriedKey(formOfQuery(new URLSearchParams(here)));
    reset(opened);
    onOpened?.(opened);
  }, [here, reset, onOpened]);
  useEffect(() => {
    if (wanted === written.current) return undefined;
    const timer = window.setTimeout(() => {
      written.current = wanted;
      setQuery(
        () => {
          // What the address holds now: the router's own copy may be older, and would bring back what another change removed.
          const others = [...new URLSearchParams(window.location.search)].filter(
            ([name]) => !isOfCheck(name),
          );
          return new URLSearchParams([...new URLSearchParams(wanted), ...others]);
        },
        { replace: true, preventScrollReset: true },
      );
    }, ADDRESS_DELAY_MS);
    return () => window.clearTimeout(timer);
  }, [wanted, setQuery]);
}

/** The form of the check that the address names. `onOpened` hears of another that is opened in its place. */
export function useCheckForm(onOpened?: (form: CheckForm) => void): {
  form: UseFormReturn<CheckForm>;
  values: CheckForm;
} {
  const [query] = useSearchParams();
  const [initial] = useState(() => withCarriedKey(formOfQuery(query)));
  const form = useForm<CheckForm>({ defaultValues: initial });
  const values = useWatch({ control: form.control, compute: (form: CheckForm) => form });
  useAddress(form, values, onOpened);
  return { form, values };
}

/** Shows what the server finds wrong at the fields; whether all of it has a field there. */
export function useComplaints(form: UseFormReturn<CheckForm>, error: unknown): boolean {
  const { setError, getValues, setFocus } = form;
  const fields = error instanceof ProblemError ? error.errors : [];
  const paths = fields.map(({ field }) => formPathOf(field, getValues()));
  useEffect(() => {
    if (!(error instanceof ProblemError)) return;
    const [first] = error.errors.flatMap((problem) => {
      const path = formPathOf(problem.field, getValues());
      if (path === null) return [];
      setError(path, { message: problemInWords(path, getValues(path), problem) });
      return [path];
    });
    if (first !== undefined) setFocus(first);
  }, [error, getValues, setError, setFocus]);
  return fields.length > 0 && paths.every((path) => path !== null);
}
