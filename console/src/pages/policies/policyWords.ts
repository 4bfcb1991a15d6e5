/** What a policy does, in words. */
import { formatWindow } from '../../ui/time';
import {
  attributesOf,
  conditionsOf,
  CONCURRENCY,
  PRIORITY_CLASSES,
  type Condition,
  type Policy,
} from './policy';

export interface PolicyWords {
  /** `each user of tier free: 10 requests a minute on service payments`; null while the policy says too little. */
  headline: string | null;
  /** What else is worth knowing, the most surprising first. */
  notes: string[];
}

const NAMES: Readonly<Record<string, string>> = {
  apiKey: 'API key',
  modelTier: 'model tier',
  ip: 'IP address',
};

/** Conditions on these say who is meant; the others say what is asked for. */
const WHO: readonly string[] = ['user', 'apiKey', 'tier', 'tenant'];
/** Every check has them. */
const ALWAYS_THERE: readonly string[] = ['user', 'model'];

export function attributeInWords(attribute: string): string {
  return NAMES[attribute] ?? attribute;
}

function plural(words: string): string {
  return /(s|x|ch|sh)$/u.test(words) ? `${words}es` : `${words}s`;
}

/** `a`, `a and b`, `a, b and c`. */
export function listed(words: readonly string[], joint = 'and'): string {
  const last = words.at(-1) ?? '';
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} ${joint} ${last}`;
}

/** Whether `value` stands for one value: it is no prefix and no address block. */
function isOneValue(attribute: string, value: string): boolean {
  if (attribute === 'ip') return !value.includes('/');
  const backslashes = /(\\*)\*$/u.exec(value)?.[1];
  return backslashes === undefined || backslashes.length % 2 === 1;
}

/** `tier free`, `tiers free or pro`. */
function named({ attribute, values }: Condition): string {
  const words = attributeInWords(attribute);
  return `${values.length > 1 ? plural(words) : words} ${listed(values, 'or')}`;
}

/** `of tier free and tenant acme`; empty for no condition. */
function of(conditions: readonly Condition[]): string {
  return conditions.length === 0 ? '' : ` of ${listed(conditions.map(named))}`;
}

/** Whom one count is for: `each user of tier free`, `tenant acme`, `all checks together`. */
function subject(each: readonly string[], who: readonly Condition[]): string {
  const conditionOn = (attribute: string): Condition | undefined =>
    who.find((condition) => condition.attribute === attribute);
  if (each.length > 0) {
    const nouns = each.map((attribute) => {
      const values = conditionOn(attribute)?.values ?? [];
      const only = values.length === 0 ? '' : ` (${listed(values, 'or')})`;
      return attributeInWords(attribute) + only;
    });
    return `each ${listed(nouns)}${of(who.filter(({ attribute }) => !each.includes(attribute)))}`;
  }
  // One count for all that meet the conditions: named after the narrowest of them.
  const [narrowest, ...wider] = WHO.map(conditionOn).filter((condition) => condition !== undefined);
  if (narrowest === undefined) return 'all checks together';
  if (narrowest.attribute === 'tier') return `all${of([narrowest, ...wider])} together`;
  const together = narrowest.values.length > 1 ? ' together' : '';
  return `${named(narrowest)}${of(wider)}${together}`;
}

/** ` on service payments`, ` from IP address 203.0.113.7`, ` with region eu`. */
function place(condition: Condition): string {
  const { attribute, test } = condition;
  if (test === 'present') return ` with any ${attributeInWords(attribute)}`;
  if (test === 'absent') return ` without ${attributeInWords(attribute)}`;
  if (attribute === 'ip') return ` from ${named(condition)}`;
  if (attribute === 'modelTier') return ` on models of ${named(condition).replace(/^model /u, '')}`;
  if (attribute === 'model' || attribute === 'service') return ` on ${named(condition)}`;
  return ` with ${named(condition)}`;
}

/** `a minute`, `an hour`, `in 90 seconds`. */
export function windowInWords(seconds: number): string {
  const words = formatWindow(seconds);
  const one = /^1 (.*)$/u.exec(words)?.[1];
  if (one === undefined) return `in ${words}`;
  return one === 'hour' ? 'an hour' : `a ${one}`;
}

function unitInWords(unit: string): string {
  return unit === CONCURRENCY ? 'leases' : unit.replaceAll('_', ' ');
}

function amountInWords(amount: number, unit: string): string {
  const words = unitInWords(unit);
  return `${amount.toLocaleString('en-US')} ${amount === 1 ? words.replace(/s$/u, '') : words}`;
}

function isAmount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function timeZoneOf({ timeZone = 'UTC' }: Policy): string {
  return timeZone;
}

/** How much is allowed: `10 requests a minute`, `no limit of requests`, `everything is denied`. */
function allowance(policy: Policy): string | null {
  const { limit, windowSeconds, calendar } = policy;
  const unit = policy.unit ?? 'requests';
  if (policy.exempt !== undefined) return 'no limit of any kind';
  if (limit === null) return `no limit of ${unitInWords(unit)}`;
  if (!isAmount(limit)) return null;
  if (limit === 0) return 'everything is denied';
  if (unit === CONCURRENCY) return `at most ${amountInWords(limit, unit)} at a time`;
  if (calendar !== undefined)
    return `${amountInWords(limit, unit)} per calendar ${calendar} (${timeZoneOf(policy)})`;
  if (typeof windowSeconds !== 'number' || !(windowSeconds > 0)) return null;
  return `${amountInWords(limit, unit)} ${windowInWords(windowSeconds)}`;
}

function headline(policy: Policy): string | null {
  const conditions = conditionsOf(policy).filter(
    ({ attribute, test, values }) =>
      attribute !== '' && (test !== 'values' || values.some((value) => value !== '')),
  );
  const amount = allowance(policy);
  if (amount === null) return null;
  const isFixed = (attribute: string): boolean =>
    conditions.some(({ attribute: name, values: [value, ...others] }) => {
      return name === attribute && value !== undefined && others.length === 0 && isOneValue(name, value);
    });
  const isWho = ({ attribute, test }: Condition): boolean => test === 'values' && WHO.includes(attribute);
  const who = conditions.filter(isWho);
  const what = conditions.filter((condition) => !isWho(condition)).map(place);
  if (policy.exempt !== undefined)
    return `${subject([], who).replace(/ together$/u, '')}: ${amount}${what.join('')}`;
  const each = attributesOf(policy).filter((attribute) => !isFixed(attribute));
  return `${subject(each, who)}: ${amount}${what.join('')}`;
}

const ON_STORE_ERROR: Readonly<Record<string, string>> = {
  allow: 'While the store is unavailable, it allows every check.',
  deny: 'While the store is unavailable, it denies every check.',
  local: 'While the store is unavailable, each server enforces its share of the limit.',
};

/** `priority class batch up to 50 % of it (5)`. */
function sharesNote(policy: Policy): string | null {
  const { shares } = policy;
  const limit = policy.burst ?? policy.limit;
  if (shares === undefined || !isAmount(limit)) return null;
  const parts = PRIORITY_CLASSES.flatMap((name) => {
    const share = shares[name];
    if (typeof share !== 'number' || !Number.isFinite(share)) return [];
    const percent = Number((share * 100).toPrecision(12));
    return [`${name} up to ${percent} % (${Math.floor(limit * share).toLocaleString('en-US')})`];
  });
  return parts.length === 0 ? null : `Allowed of the limit by priority class: ${listed(parts)}.`;
}

/** What the `weights` of `policy` say, if it has any. */
function weightsNote({ weights = {}, limit }: Policy): string | null {
  if (limit === null) return null;
  const parts = Object.entries(weights).flatMap(([kind, weight]) =>
    typeof weight === 'number' && Number.isFinite(weight)
      ? [`one of ${unitInWords(kind)} counts ${weight}`]
      : [],
  );
  return parts.length === 0 ? null : `Of its tokens, ${listed(parts)}.`;
}

/** How servers split the limit of `policy`, if they do. */
function splitNote({ split }: Policy): string | null {
  if (typeof split?.share !== 'number' || !Number.isFinite(split.share)) return null;
  const percent = Number((split.share * 100).toPrecision(12));
  return `With Redis, each server takes up to ${percent} % of what is left ahead of time: a check may be denied while other servers hold a part.`;
}

function precedenceNote(policy: Policy): string {
  if (policy.exempt !== undefined)
    return 'It lifts every limit, bans included. Only a policy that overrides it by its ID is stronger.';
  const count = Object.keys(policy.match ?? {}).length;
  const names = attributesOf(policy).map(attributeInWords);
  const per = names.length === 0 ? 'for all checks together' : `by ${listed(names)}`;
  const window =
    policy.windowSeconds === undefined && policy.calendar === undefined ? 'any window' : 'the same window';
  const unit = policy.unit ?? 'requests';
  const counted =
    unit === CONCURRENCY ? 'limit leases at a time' : `count ${unitInWords(unit)} over ${window}`;
  const others = `policies ${per} that ${counted}`;
  if (count === 0)
    return `${others.charAt(0).toUpperCase()}${others.slice(1)} override it where their conditions apply.`;
  const fewer = count === 1 ? 'without conditions' : `with fewer than ${count} conditions`;
  return `Where it applies, it overrides ${others} ${fewer}.`;
}

function overridesNote({ overrides = [] }: Policy): string | null {
  return overrides.length === 0 ? null : `Where it applies, it also overrides ${listed(overrides)}.`;
}

function missingNote(policy: Policy): string | null {
  const asked = conditionsOf(policy).filter(({ test }) => test !== 'absent');
  const needed = [...new Set([...attributesOf(policy), ...asked.map(({ attribute }) => attribute)])];
  const names = needed.filter((name) => name !== '' && !ALWAYS_THERE.includes(name)).map(attributeInWords);
  return names.length === 0 ? null : `It does not apply to checks without ${listed(names, 'or')}.`;
}

function algorithmNote(policy: Policy): string | null {
  const { windowSeconds, algorithm, calendar } = policy;
  if (!isAmount(policy.limit) || policy.limit === 0) return null;
  if (policy.unit === CONCURRENCY)
    return 'A lease holds one slot until it is settled or released, or expires. A check holds none, but is denied while no slot is free.';
  if (calendar !== undefined) {
    const start = calendar === 'week' ? 'Monday' : `each ${calendar}`;
    return `The limit holds from the start of ${start} in ${timeZoneOf(policy)}: shortly before and after that, twice the limit can be allowed.`;
  }
  if (!(typeof windowSeconds === 'number')) return null;
  if (!(windowSeconds > 0)) return null;
  const length = formatWindow(windowSeconds);
  if (algorithm === 'token_bucket') {
    const burst = isAmount(policy.burst) ? policy.burst : policy.limit;
    const tokens = burst.toLocaleString('en-US');
    const most = (burst + policy.limit).toLocaleString('en-US');
    return `A token bucket: at most ${tokens} at once, then a steady rate; in the worst case ${most} in ${length}.`;
  }
  return algorithm === 'sliding_window_counter'
    ? `Approximate: uses little memory even for large limits, but in the worst case allows nearly twice the limit in ${length}.`
    : `Exact: never more than the limit in any ${length}.`;
}

/** What `policy` does. It may be half filled in, as in a form. */
export function policyInWords(policy: Policy): PolicyWords {
  const notes = [
    policy.enabled === false ? 'It is disabled and has no effect.' : null,
    policy.mode === 'shadow' ? 'In shadow mode it counts and reports, but never denies.' : null,
    policy.limit === null && policy.exempt === undefined
      ? 'It lifts the limits of the policies that it overrides.'
      : null,
    missingNote(policy),
    precedenceNote(policy),
    overridesNote(policy),
    policy.ignoreCase === true ? 'Its conditions ignore upper and lower case.' : null,
    weightsNote(policy),
    sharesNote(policy),
    algorithmNote(policy),
    splitNote(policy),
    ON_STORE_ERROR[policy.onStoreError ?? ''] ?? null,
  ];
  return { headline: headline(policy), notes: notes.filter((note) => note !== null) };
}
