/** An explanation in words. */
import { formatCount, reasonInWords, unitInWords } from '../check/words';
import type { Check } from '../check/check';
import { attributeInWords, listed, policyInWords } from '../policies/policyWords';
import { denies, obstaclesOf, type Considered, type Explanation, type Subject } from './explanation';

/** `each user of tier free: 10 requests a minute`; null where the policy is not known. */
export function effectOf({ policy }: Considered): string | null {
  return policy === null ? null : policyInWords(policy).headline;
}

/** `needs tier free or pro, and here it is basic`; the server's words where the policy is not known. */
export function obstacleInWords({ answer, policy }: Considered, subject: Subject): string {
  const obstacles = policy === null ? [] : obstaclesOf(policy, subject);
  if (obstacles.length === 0) return answer.why;
  const words = obstacles.map(({ attribute, accepted, value }) => {
    const name = attributeInWords(attribute);
    if (accepted.length === 0) return `counts per ${name}, and the check has none`;
    const wanted = `needs ${name} ${listed(accepted, 'or')}`;
    return value === null ? `${wanted}, and the check has none` : `${wanted}, and here it is ${value}`;
  });
  return words.join('; ');
}

/** `5 of 10 requests used, 5 left`; null where there is no limit. */
export function usageInWords({ answer, policy }: Considered): string | null {
  const { count, limit, remaining } = answer;
  if (limit === null) return null;
  if (limit === 0) return 'nothing passes';
  const unit = policy === null ? '' : ` ${unitInWords(policy.unit ?? 'requests', limit)}`;
  if (count === null) return `${formatCount(limit)}${unit}, usage not known`;
  const left = remaining === null ? '' : `, ${formatCount(remaining)} left`;
  return `${formatCount(count)} of ${formatCount(limit)}${unit} used${left}`;
}

/** `batch may use 50 % of 1,000`; null where the limit is not shared out. */
export function shareInWords({ answer, policy }: Considered, priority: string): string | null {
  if (answer.share === null) return null;
  const percent = Number((answer.share * 100).toPrecision(12));
  const whole = typeof policy?.limit === 'number' ? ` of ${formatCount(policy.limit)}` : '';
  return `Priority class ${priority} may use ${percent} %${whole}`;
}

/** What becomes of the check, in a sentence. */
export function verdictInWords(explanation: Explanation, decides: Considered | null): string {
  const reason = reasonInWords(explanation);
  if (decides === null) return reason ?? 'No policy limits this check, so it passes.';
  const { policyId } = decides.answer;
  if (!explanation.allowed) return `${reason ?? 'It is refused.'} Policy ${policyId} decides.`;
  return `Policy ${policyId} decides, because the smallest share of its limit is left.`;
}

export type Verdict = 'admits' | 'denies' | 'would deny';

export function verdictOf({ answer, policy }: Considered): Verdict {
  if (!denies(answer)) return 'admits';
  return policy?.mode === 'shadow' ? 'would deny' : 'denies';
}

/** One line of what the check was resolved to. */
export interface Resolved {
  readonly name: string;
  /** Null where there is none. */
  readonly value: string | null;
  /** Where it is from: the check, or what the catalog knows. */
  readonly source: 'check' | 'catalog' | null;
}

const SENT_AS = {
  user: 'userId',
  model: 'modelId',
  tenant: 'tenantId',
  apiKey: 'apiKey',
  service: 'service',
  ip: 'ip',
} as const satisfies Partial<Record<keyof Subject, keyof Check>>;

const IN_ORDER = ['user', 'tenant', 'apiKey', 'tier', 'model', 'modelTier', 'service', 'ip'] as const;

/** What became of `check`: each attribute of the subject, and where it is from. */
export function resolvedOf(check: Check, { subject, priority }: Explanation): Resolved[] {
  const lines = IN_ORDER.map((attribute): Resolved => {
    const value = subject[attribute] ?? null;
    const field = attribute in SENT_AS ? SENT_AS[attribute as keyof typeof SENT_AS] : undefined;
    const isSent = field !== undefined && check[field] === value;
    const source = value === null ? null : isSent ? 'check' : 'catalog';
    return { name: attributeInWords(attribute), value, source };
  });
  return [...lines, { name: 'priority class', value: priority, source: 'catalog' }];
}

/** Whether `value` stands for an API key that the catalog does not know: such a key is told by its SHA-256. */
export function isHash(value: string): boolean {
  return /^[0-9a-f]{64}$/u.test(value);
}

/** How many policies a group has, and how many of them a search finds. */
export function countInWords(all: number, found: number, isSearched: boolean): string {
  return isSearched ? `${formatCount(found)} of ${formatCount(all)}` : formatCount(all);
}
