/** What other policies would have decided: the question to the server, its answer, and what is said of it. */
import { adminCall, adminResponse } from '../../api/admin';
import type { components } from '../../api/schema';
import { formatDateTime } from '../../ui/time';

export type Comparison = components['schemas']['Comparison'];
export type ComparedSubjects = Comparison['subjects'][number];
export type ComparedSubject = ComparedSubjects['losers'][number];
export type ComparedPolicy = Comparison['policies'][number];
type Verdict = components['schemas']['ComparedVerdict'];

type Timeline = NonNullable<Comparison['timeline']>;
export type PolicyFormat = 'yaml' | 'toml';

export interface Question {
  /** The text of a policy file. */
  policies: string;
  /** YAML contains JSON. */
  format: PolicyFormat;
  /** The text of a trace; null for the recorded traffic. */
  trace: string | null;
}

export function compare({ policies, format, trace }: Question): Promise<Comparison> {
  const body = trace === null ? { policies, format } : { policies, format, trace };
  return adminCall<Comparison>('/admin/what-if', { method: 'POST', body });
}

/** What was allowed and denied in a step of a timeline. */
export interface TimelineStep {
  /** When it begins, in milliseconds since 1970. */
  at: number;
  checks: number;
  allowed: { old: number; new: number };
  denied: { old: number; new: number };
}

export function timelineSteps({ startAt, stepSeconds, steps }: Timeline): TimelineStep[] {
  const start = Date.parse(startAt);
  return steps.map(({ checks, allowed }, index) => ({
    at: start + index * stepSeconds * 1_000,
    checks,
    allowed,
    denied: { old: checks - allowed.old, new: checks - allowed.new },
  }));
}

/** What the charts of `steps` show, for who cannot see them. */
export function timelineWords(steps: readonly TimelineStep[]): string {
  const first = steps.find(({ allowed }) => allowed.old !== allowed.new);
  if (first === undefined) return 'In every step, as many checks are allowed now and then.';
  const differing = steps.filter(({ allowed }) => allowed.old !== allowed.new).length;
  return `In ${differing.toLocaleString('en')} of ${steps.length.toLocaleString('en')} steps, other numbers of checks are allowed now and then; the first begins at ${formatDateTime(first.at)}.`;
}

/** The policies in force as a policy file. */
export async function readPolicies(signal?: AbortSignal): Promise<string> {
  const call = signal === undefined ? {} : { signal };
  const response = await adminResponse('/admin/export', call);
  return policiesOf(await response.text());
}

/** The list of policies in `file`, an export in YAML; its other lists begin at the start of a line too. */
export function policiesOf(file: string): string {
  const lines = file.split('\n');
  const start = lines.findIndex((line) => line.startsWith('policies:'));
  if (start < 0) return '';
  const after = lines.slice(start + 1);
  const length = after.findIndex((line) => /^[A-Za-z]/u.test(line));
  const kept = length < 0 ? after : after.slice(0, length);
  return [lines[start], ...kept].join('\n').trimEnd() + '\n';
}

const KINDS: Readonly<Record<string, string | undefined>> = {
  user: 'Users',
  apiKey: 'API keys',
  tenant: 'Tenants',
  model: 'Models',
};

export function kindWords(kind: string): string {
  return KINDS[kind] ?? kind;
}

/** A user with its tenant, or another subject by its name. */
export function subjectWords({ subject }: Pick<ComparedSubject, 'subject'>): string {
  const { user, tenant } = subject;
  if (user !== undefined) return tenant === undefined ? user : `${user} of ${tenant}`;
  return Object.values(subject).join(' ');
}

/** How much more `pair` has by the new policies, with its sign. */
export function changeWords(pair: { old: number; new: number }): string {
  const change = pair.new - pair.old;
  return change > 0 ? `+${change.toLocaleString('en')}` : change.toLocaleString('en');
}

/** How many subjects lose and gain checks, and tokens. */
export function subjectCountWords({
  checks,
  tokens,
  mixed,
}: Pick<ComparedSubjects, 'checks' | 'tokens' | 'mixed'>): string {
  const words = (what: string, { losing, gaining }: ComparedSubjects['checks']): string =>
    `${what}: ${losing.toLocaleString('en')} would lose and ${gaining.toLocaleString('en')} would gain.`;
  const counts = `${words('Checks', checks)} ${words('Tokens', tokens)}`;
  if (mixed === 0) return counts;
  return `${counts} ${mixed.toLocaleString('en')} of them would lose one and gain the other.`;
}

export function verdictWords(verdict: Verdict): string {
  if (verdict.allowed) return 'allowed';
  return `denied by ${verdict.policyId ?? verdict.reason ?? 'no policy'}`;
}
