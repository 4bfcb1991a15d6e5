/** An explanation in words. */
import { formatCount, reasonInWords, unitInWords } from '../check/words';
import type { Check } from '../check/check';
import { attributeInWords, listed, policyInWords } from '../policies/policyWords';
import {
  denies,
  obstaclesOf,
  type Attributes,
  type Considered,
  type Explanation,
  type Obstacle,
  type Subject,
} from './explanation';

/** `each user of tier free: 10 requests a minute`; null where the policy is not known. */
export function effectOf({ policy }: Considered): string | null {
  return policy === null ? null : policyInWords(policy).headline;
}

/** `needs tier free or pro, but the check has basic`; the server's words where the policy is not known. */
export function obstacleInWords(
  { answer, policy }: Considered,
  subject: Subject,
  custom: Attributes = {},
): string {
  const obstacles = policy === null ? [] : obstaclesOf(answer, policy, subject, custom);
  return obstacles.length === 0 ? answer.why : obstacles.map(oneObstacleInWords).join('; ');
}

function oneObstacleInWords({ attribute, condition, value }: Obstacle): string {
  const name = attributeInWords(attribute);
  if (condition === null) return `counts by ${name}, which the check does not have`;
  if (condition.test === 'absent') return `needs no ${name}, but the check has ${value ?? 'one'}`;
  const wanted =
    condition.test === 'present' ? `needs any ${name}` : `needs ${name} ${listed(condition.values, 'or')}`;
  return value === null
    ? `${wanted}, which the check does not have`
    : `${wanted}, but the check has ${value}`;
}

/** `5 of 10 requests used, 5 left`, `12 of 10 requests used, 2 above the limit`; null where there is no limit. */
export function usageInWords({ answer, policy }: Considered, isDegraded = false): string | null {
  const { count, limit, remaining, debt } = answer;
  if (limit === null) return null;
  if (limit === 0) return 'everything is denied';
  const unit = policy === null ? '' : ` ${unitInWords(policy.unit ?? 'requests', limit)}`;
  // Without the store nobody knows what others have used.
  if (count === null || (isDegraded && count === 0)) return `${formatCount(limit)}${unit}, usage unknown`;
  const used = `${formatCount(count)} of ${formatCount(limit)}${unit} used`;
  if (debt !== null && debt > 0) return `${used}, ${formatCount(debt)} above the limit`;
  return remaining === null ? used : `${used}, ${formatCount(remaining)} left`;
}

/** `batch may use 50 % of 1,000`; null where the limit is not shared out. */
export function shareInWords({ answer, policy }: Considered, priority: string): string | null {
  if (answer.share === null) return null;
  const percent = Number((answer.share * 100).toPrecision(12));
  const whole = typeof policy?.limit === 'number' ? ` of ${formatCount(policy.limit)}` : '';
  return `Priority class ${priority} may use ${percent} %${whole}`;
}

/** Why the check would be allowed or denied, in a sentence. */
export function verdictInWords(explanation: Explanation, decides: Considered | null): string {
  const reason = reasonInWords(explanation);
  if (decides === null) return reason ?? 'No policy limits this check, so it is allowed.';
  const { policyId } = decides.answer;
  if (!explanation.allowed) return `${reason ?? 'It is denied.'} Decided by policy ${policyId}.`;
  return `Closest limit: ${policyId}.`;
}

export type Verdict = 'allows' | 'denies' | 'would deny';

export function verdictOf({ answer, policy }: Considered): Verdict {
  if (!denies(answer)) return 'allows';
  return policy?.mode === 'shadow' ? 'would deny' : 'denies';
}

/** One line of what the check was resolved to. */
export interface Resolved {
  readonly name: string;
  /** Null where there is none. */
  readonly value: string | null;
  /** Where it is from, or that the catalog does not know it, in a few words; null where there is none. */
  readonly source: string | null;
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

const TIER_SOURCES: Readonly<Record<Explanation['tierSource'], string>> = {
  catalog: 'from the catalog',
  check: 'from the check',
  default: 'default: the catalog has no tier for it',
};

/** Where `attribute` is from. */
function sourceOf(attribute: keyof Subject, check: Check, explanation: Explanation): string {
  const { subject, userKnown, tenantKnown, tierSource } = explanation;
  if (attribute === 'tier') return TIER_SOURCES[tierSource];
  if (attribute === 'user' && userKnown === false) return 'unknown user';
  if (attribute === 'tenant' && tenantKnown === false) return 'unknown tenant';
  if (isHash(subject[attribute] ?? '')) return 'unknown API key, shown as a hash';
  const sent =
    attribute in SENT_AS ? check[SENT_AS[attribute as keyof typeof SENT_AS]] : check.attributes?.[attribute];
  return sent === subject[attribute] ? 'from the check' : 'from the catalog';
}

/** Each attribute of the subject of `check`, and where it is from. */
export function resolvedOf(check: Check, explanation: Explanation): Resolved[] {
  const { subject, priority } = explanation;
  const lines = IN_ORDER.map((attribute): Resolved => {
    const value = subject[attribute] ?? null;
    const source = value === null ? null : sourceOf(attribute, check, explanation);
    return { name: attributeInWords(attribute), value, source };
  });
  const custom = Object.entries(check.attributes ?? {})
    .filter(([name]) => !(name in subject))
    .map(([name, value]): Resolved => ({ name, value, source: 'from the check' }));
  return [...lines, ...custom, { name: 'priority class', value: priority, source: 'of the tier' }];
}

/** Whether `value` stands for an API key that the catalog does not know: such a key is told by its SHA-256. */
export function isHash(value: string): boolean {
  return /^[0-9a-f]{64}$/u.test(value);
}

/** How many policies a group has, and how many of them a search finds. */
export function countInWords(all: number, found: number, isSearched: boolean): string {
  return isSearched ? `${formatCount(found)} of ${formatCount(all)}` : formatCount(all);
}
