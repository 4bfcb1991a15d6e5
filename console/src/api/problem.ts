/**
 * What can go wrong with a call, as errors with a kind: a problem document (RFC 9457) that the server sent, or no
 * answer at all.
 */
import type { components } from './schema';

export type FieldProblem = components['schemas']['FieldProblem'];

/** The server answered that it refuses. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';
  readonly status: number;
  /** The kind, stable: `urn:tollgate:problem:invalid-fields`. */
  readonly type: string;
  readonly title: string;
  readonly errors: readonly FieldProblem[];
  /** How long the server asks to wait, if it does. */
  readonly retryAfterMs: number | null;

  constructor(problem: {
    status: number;
    type: string;
    title: string;
    detail: string;
    errors: readonly FieldProblem[];
    retryAfterMs: number | null;
  }) {
    super(problem.detail);
    this.status = problem.status;
    this.type = problem.type;
    this.title = problem.title;
    this.errors = problem.errors;
    this.retryAfterMs = problem.retryAfterMs;
  }
}

/** The server did not answer: it is down, restarting, or the network is. */
export class OfflineError extends Error {
  override readonly name = 'OfflineError';

  constructor(cause: unknown) {
    super('The server is not responding', { cause });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function text(value: unknown, otherwise: string): string {
  return typeof value === 'string' && value !== '' ? value : otherwise;
}

function fieldProblems(value: unknown): FieldProblem[] {
  if (!Array.isArray(value)) return [];
  return value.filter(isRecord).map((one) => ({
    field: text(one.field, 'body'),
    problem: text(one.problem, 'is not accepted'),
    accepted: text(one.accepted, ''),
  }));
}

/** The wait in a `Retry-After` header of seconds; null where there is none. */
function retryAfterMs(headers: Headers): number | null {
  const seconds = Number(headers.get('retry-after') ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null;
}

/** The error that a refusing `response` is, whether or not a proxy on the way replaced its body. */
export async function problemOf(response: Response): Promise<ProblemError> {
  const body: unknown = await response.json().catch(() => null);
  const problem = isRecord(body) ? body : {};
  const title = text(problem.title, `The server answered ${response.status} ${response.statusText}`.trim());
  return new ProblemError({
    status: response.status,
    type: text(problem.type, 'about:blank'),
    title,
    detail: text(problem.detail, title),
    errors: fieldProblems(problem.errors),
    retryAfterMs: retryAfterMs(response.headers),
  });
}
