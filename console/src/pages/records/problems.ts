/** The server's complaints about what is in a form, by the path of the form's field. */
import { createContext, useContext } from 'react';

import type { FieldProblem } from '../../api/problem';

export type Problems = ReadonlyMap<string, string>;

export const ProblemsContext = createContext<Problems>(new Map());

/** What is wrong at `path`; null if nothing is known to be. */
export function useProblem(path: string): string | null {
  return useContext(ProblemsContext).get(path) ?? null;
}

export function problemInWords({ problem, accepted }: FieldProblem): string {
  return accepted === '' ? problem : `${problem}; takes ${accepted}`;
}

export interface PlacedProblems {
  at: Problems;
  /** Those of fields that the form has not. */
  elsewhere: readonly FieldProblem[];
}

/** `problems` where `pathOf` says; the first of each field. */
export function placed(
  problems: readonly FieldProblem[],
  pathOf: (field: string) => string | null,
): PlacedProblems {
  const at = new Map<string, string>();
  const elsewhere: FieldProblem[] = [];
  for (const problem of problems) {
    const path = pathOf(problem.field);
    if (path === null) elsewhere.push(problem);
    else if (!at.has(path)) at.set(path, problemInWords(problem));
  }
  return { at, elsewhere };
}
