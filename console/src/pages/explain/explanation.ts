/** An explanation, put in the order in which one understands it: what decides first, what does not match last. Pure. */
import type { components } from '../../api/schema';
import { conditionsOf, type Condition, type Policy } from '../policies/policy';

export type Explanation = components['schemas']['Explanation'];
export type ConsideredPolicy = components['schemas']['ConsideredPolicy'];
export type Subject = Explanation['subject'];

/** A policy that was considered, and the policy itself; null where it is not known. */
export interface Considered {
  readonly answer: ConsideredPolicy;
  readonly policy: Policy | null;
}

function consideredOf(answer: ConsideredPolicy, policies: ReadonlyMap<string, Policy>): Considered {
  return { answer, policy: policies.get(answer.policyId) ?? null };
}

export interface Groups {
  /** The one whose limit is the decision's; null where no limit is met. */
  readonly decides: Considered | null;
  /** Those that deny first, then by how much of them is used. */
  readonly applies: readonly Considered[];
  readonly shadow: readonly Considered[];
  readonly exempts: readonly Considered[];
  readonly overridden: readonly Considered[];
  readonly differs: readonly Considered[];
  readonly off: readonly Considered[];
}

type GroupName = keyof Groups;

function groupOf({ answer, policy }: Considered, bindingPolicyId: string | null): GroupName {
  switch (answer.outcome) {
    case 'applies':
      if (answer.policyId === bindingPolicyId) return 'decides';
      return policy?.mode === 'shadow' ? 'shadow' : 'applies';
    case 'exempts':
      return 'exempts';
    case 'overridden':
      return 'overridden';
    case 'disabled':
      return 'off';
    case 'does_not_apply':
      return 'differs';
  }
}

/** Whether the limit of `answer`, alone, would not let the check pass. Null is a wait without an end. */
export function denies(answer: ConsideredPolicy): boolean {
  return answer.limit !== null && answer.retryAfterMs !== 0;
}

/** The larger, the nearer to denying. */
function pressureOf({ answer }: Considered): number {
  const { limit, count } = answer;
  if (denies(answer)) return 2;
  return limit === null || limit === 0 || count === null ? -1 : count / limit;
}

export function groupsOf(explanation: Explanation, policies: ReadonlyMap<string, Policy>): Groups {
  const groups: Record<GroupName, Considered[]> = {
    decides: [],
    applies: [],
    shadow: [],
    exempts: [],
    overridden: [],
    differs: [],
    off: [],
  };
  for (const answer of explanation.policies) {
    const considered = consideredOf(answer, policies);
    groups[groupOf(considered, explanation.bindingPolicyId)].push(considered);
  }
  groups.applies.sort((a, b) => pressureOf(b) - pressureOf(a));
  return { ...groups, decides: groups.decides[0] ?? null };
}

/** Every policy that was considered, by its id. */
export function consideredById(
  explanation: Explanation,
  policies: ReadonlyMap<string, Policy>,
): ReadonlyMap<string, Considered> {
  return new Map(explanation.policies.map((answer) => [answer.policyId, consideredOf(answer, policies)]));
}

/** Why a policy is overridden, in the server's words, without the id of the other policy. */
export function precedenceInWords({ why, overriddenBy }: ConsideredPolicy): string {
  const id = JSON.stringify(overriddenBy);
  return why.startsWith(`${id} `) ? why.slice(id.length + 1) : why;
}

/** Attributes that a check names itself. */
export type Attributes = Readonly<Record<string, string>>;

/** A condition that does not hold, or an attribute that is counted per and that the subject lacks. */
export interface Obstacle {
  readonly attribute: string;
  /** What the condition asks for; null where the attribute is only counted per. */
  readonly condition: Condition | null;
  /** What the subject has; null if nothing. */
  readonly value: string | null;
}

/** Every reason why `policy` does not apply to a check of `subject` with these `custom` attributes, as `answer` lists them. */
export function obstaclesOf(
  answer: ConsideredPolicy,
  policy: Policy,
  subject: Subject,
  custom: Attributes = {},
): Obstacle[] {
  const values = new Map<string, string | null>([...Object.entries(custom), ...Object.entries(subject)]);
  const conditions = new Map(conditionsOf(policy).map((condition) => [condition.attribute, condition]));
  return answer.unmet.map((attribute) => ({
    attribute,
    condition: conditions.get(attribute) ?? null,
    value: values.get(attribute) ?? null,
  }));
}

/** Whether every word of `search` is in `text`. */
export function isFound(text: string, search: string): boolean {
  const lower = text.toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/u)
    .every((word) => lower.includes(word));
}

/** `groups` with only what `search` finds in the text of each. What decides always stays. */
export function searched(groups: Groups, search: string, textOf: (one: Considered) => string): Groups {
  if (search.trim() === '') return groups;
  const only = (all: readonly Considered[]): Considered[] =>
    all.filter((one) => isFound(textOf(one), search));
  return {
    decides: groups.decides,
    applies: only(groups.applies),
    shadow: only(groups.shadow),
    exempts: only(groups.exempts),
    overridden: only(groups.overridden),
    differs: only(groups.differs),
    off: only(groups.off),
  };
}
