/** What the server finds wrong with a form, asked after each pause in typing. */
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { get, useWatch, type Control, type FieldValues } from 'react-hook-form';

import { ProblemError, type FieldProblem } from '../../api/problem';
import type { Item, Kind } from './kind';
import { placed, type PlacedProblems } from './problems';
import { usePaused } from './usePaused';

const NO_PROBLEMS: readonly FieldProblem[] = [];

/** What was refused, and why. */
export interface Refusal<Form> {
  error: unknown;
  form: Form;
}

/** The problems of a refusal whose fields hold what they held then. */
function stillThere<Form extends FieldValues>(
  refusal: Refusal<Form> | null,
  form: Form,
  pathOf: (field: string) => string | null,
): readonly FieldProblem[] {
  if (!(refusal?.error instanceof ProblemError)) return NO_PROBLEMS;
  return refusal.error.errors.filter(({ field }) => {
    const path = pathOf(field);
    return path === null || get(form, path) === get(refusal.form, path);
  });
}

export function useLiveProblems<Record extends Item, Form extends FieldValues>(
  kind: Kind<Record, Form>,
  control: Control<Form>,
  refusal: Refusal<Form> | null,
): PlacedProblems {
  const form = useWatch({ control, compute: (values: Form) => values });
  const { validate } = kind;
  const body = usePaused(validate === undefined ? '' : JSON.stringify(kind.toBody(form)));
  const { data = NO_PROBLEMS } = useQuery({
    queryKey: ['problems', kind.kind, body],
    queryFn: ({ signal }) => validate?.(JSON.parse(body) as object, signal) ?? NO_PROBLEMS,
    enabled: validate !== undefined && body !== '',
    // A token that may only look may not ask this either, on some servers; saving would tell.
    retry: false,
    staleTime: Infinity,
    gcTime: 0,
    placeholderData: keepPreviousData,
  });
  const pathOf = (field: string): string | null => kind.formPathOf(field, form);
  return placed([...data, ...stillThere(refusal, form, pathOf)], form, pathOf);
}
