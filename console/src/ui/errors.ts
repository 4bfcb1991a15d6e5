/** Errors in words for people. */
import { OfflineError, ProblemError, type FieldProblem } from '../api/problem';

export interface DescribedError {
  title: string;
  detail: string | null;
  fields: readonly FieldProblem[];
  retryAfterMs: number | null;
}

function titleOf(error: ProblemError): string {
  switch (error.status) {
    case 401:
      return 'The server does not accept this token';
    case 403:
      return 'You have read-only access';
    case 429:
      return 'Too many wrong tokens from this address';
    default:
      return error.title;
  }
}

export function describeError(error: unknown): DescribedError {
  if (error instanceof ProblemError) {
    const { message, errors, retryAfterMs } = error;
    const title = titleOf(error);
    return { title, detail: message === title ? null : message, fields: errors, retryAfterMs };
  }
  if (error instanceof OfflineError) {
    const detail = 'It may be restarting, or your network connection to it may be down.';
    return { title: 'The server is not responding', detail, fields: [], retryAfterMs: null };
  }
  const detail = error instanceof Error ? error.message : null;
  return { title: 'Something went wrong', detail, fields: [], retryAfterMs: null };
}
