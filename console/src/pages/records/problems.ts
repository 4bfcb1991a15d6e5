/** What is wrong with a form, by the paths of its fields. */
import { createContext, useContext } from 'react';
import { get, type FieldValues } from 'react-hook-form';

import type { FieldProblem } from '../../api/problem';
import { problemInWords } from './fieldWords';

export type Problems = ReadonlyMap<string, string>;

export const ProblemsContext = createContext<Problems>(new Map());

/** What is wrong at `path`; null if nothing is known to be. */
export function useProblem(path: string): string | null {
  return useContext(ProblemsContext).get(path) ?? null;
}

export interface PlacedProblems {
  at: Problems;
  /** Those of fields that the form does not have. */
  elsewhere: readonly FieldProblem[];
}

/** `problems` at the fields of `form`, the first of each, where `pathOf` says. */
export function placed(
  problems: readonly FieldProblem[],
  form: FieldValues,
  pathOf: (field: string) => string | null,
): PlacedProblems {
  const at = new Map<string, string>();
  const elsewhere: FieldProblem[] = [];
  for (const problem of problems) {
    const path = pathOf(problem.field);
    if (path === null) elsewhere.push(problem);
    else if (!at.has(path)) at.set(path, problemInWords(path, get(form, path), problem));
  }
  return { at, elsewhere };
}
