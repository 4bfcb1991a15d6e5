/** A policy as the form holds it: every field a text, as it is typed. */
import {
  attributesOf,
  conditionsOf,
  CONCURRENCY,
  PRIORITY_CLASSES,
  TOKEN_UNITS,
  type Condition,
  type Policy,
  type PriorityClass,
} from './policy';

/** In place of a scope's name: the attributes are listed. */
export const LISTED = 'listed';

export const TOKEN_BUCKET = 'token_bucket';

/** In place of an algorithm: a policy has `calendar` instead. */
export const CALENDAR = 'calendar';

export type LimitKind = 'amount' | 'exempt' | 'exemptAll' | 'ban';

export interface PolicyForm {
  id: string;
  scope: string;
  per: string[];
  /** Empty for 64. */
  ipv6Prefix: string;
  conditions: Condition[];
  ignoreCase: boolean;
  unit: string;
  limitKind: LimitKind;
  amount: string;
  /** The capacity of a token bucket; empty for the limit. */
  burst: string;
  window: string;
  windowUnit: string;
  /** The period of a calendar. */
  calendar: string;
  /** Empty for UTC. */
  timeZone: string;
  /** Of an exemption or a ban: whether it is for limits of every window. */
  everyWindow: boolean;
  algorithm: string;
  /** In percent of what is left; empty for no parts. */
  split: string;
  overrides: string[];
  mode: string;
  overLimit: string;
  onExpire: string;
  /** JSON; empty for nothing. */
  reserve: string;
  weights: string;
  visibility: string;
  /** Empty for what the server is set to. */
  onStoreError: string;
  enabled: boolean;
  /** In percent of the limit; empty for all of it. */
  shares: Record<PriorityClass, string>;
}

export const CALENDARS = ['hour', 'day', 'week', 'month'] as const;

export const WINDOW_UNITS: Readonly<Record<string, number>> = {
  seconds: 1,
  minutes: 60,
  hours: 3_600,
  days: 86_400,
};

const NO_SHARES: Record<PriorityClass, string> = { batch: '', standard: '', premium: '', internal: '' };

export const NEW_POLICY: PolicyForm = {
  id: '',
  scope: 'USER_MODEL',
  per: [],
  ipv6Prefix: '',
  conditions: [],
  ignoreCase: false,
  unit: 'requests',
  limitKind: 'amount',
  amount: '',
  burst: '',
  window: '1',
  windowUnit: 'minutes',
  calendar: 'day',
  timeZone: '',
  everyWindow: true,
  algorithm: 'sliding_window_log',
  split: '',
  overrides: [],
  mode: 'enforce',
  overLimit: 'deny',
  onExpire: 'keep',
  reserve: '',
  weights: '',
  visibility: 'public',
  onStoreError: '',
  enabled: true,
  shares: NO_SHARES,
};

function windowOf(seconds: number | undefined): Pick<PolicyForm, 'window' | 'windowUnit'> {
  if (seconds === undefined) return { window: '', windowUnit: 'seconds' };
  const units = Object.entries(WINDOW_UNITS).reverse();
  const [windowUnit, size] = units.find(([, each]) => seconds >= each && seconds % each === 0) ?? [
    'seconds',
    1,
  ];
  return { window: String(seconds / size), windowUnit };
}

function limitKindOf({ limit, exempt }: Policy): LimitKind {
  if (exempt !== undefined) return 'exemptAll';
  if (limit === null) return 'exempt';
  return limit === 0 ? 'ban' : 'amount';
}

/** 0.07 · 100 is not 7 in binary fractions; twelve digits are as many as anyone types. */
function percentOf(share: number | undefined): string {
  return share === undefined ? '' : String(Number((share * 100).toPrecision(12)));
}

export function formOfPolicy(policy: Policy): PolicyForm {
  const { limit, shares = {} } = policy;
  return {
    id: policy.id,
    scope: policy.per === undefined ? (policy.scope ?? LISTED) : LISTED,
    per: policy.per ?? [],
    ipv6Prefix: policy.ipv6Prefix === undefined ? '' : String(policy.ipv6Prefix),
    conditions: conditionsOf(policy),
    ignoreCase: policy.ignoreCase ?? false,
    unit: policy.unit ?? NEW_POLICY.unit,
    limitKind: limitKindOf(policy),
    amount: limit === null || limit === 0 ? '' : String(limit),
    burst: policy.burst === undefined ? '' : String(policy.burst),
    ...windowOf(policy.windowSeconds),
    calendar: policy.calendar ?? NEW_POLICY.calendar,
    timeZone: policy.timeZone ?? '',
    everyWindow:
      (policy.windowSeconds === undefined && policy.calendar === undefined) ||
      !(limit === null || limit === 0),
    algorithm: policy.calendar === undefined ? (policy.algorithm ?? NEW_POLICY.algorithm) : CALENDAR,
    split: percentOf(policy.split?.share),
    overrides: policy.overrides ?? [],
    mode: policy.mode ?? NEW_POLICY.mode,
    overLimit: policy.overLimit ?? NEW_POLICY.overLimit,
    onExpire: policy.onExpire ?? NEW_POLICY.onExpire,
    reserve: policy.reserve === undefined ? '' : JSON.stringify(policy.reserve),
    weights: policy.weights === undefined ? '' : JSON.stringify(policy.weights),
    visibility: policy.visibility ?? NEW_POLICY.visibility,
    onStoreError: policy.onStoreError ?? '',
    enabled: policy.enabled ?? true,
    shares: {
      batch: percentOf(shares.batch),
      standard: percentOf(shares.standard),
      premium: percentOf(shares.premium),
      internal: percentOf(shares.internal),
    },
  };
}

/** The number that `text` writes, times `factor`; the text itself if it is none, for the server to complain about. */
function numberOrText(text: string, change: (value: number) => number = (value) => value): number | string {
  const trimmed = text.trim();
  return /^[+-]?\d+(\.\d+)?$/u.test(trimmed) ? change(Number(trimmed)) : trimmed;
}

function limitOf({ limitKind, amount }: PolicyForm): number | string | null | undefined {
  if (limitKind === 'exempt' || limitKind === 'exemptAll') return null;
  if (limitKind === 'ban') return 0;
  return amount.trim() === '' ? undefined : numberOrText(amount);
}

/** Only a token bucket has a burst; what was typed before another algorithm was chosen is not sent. */
function burstOf(form: PolicyForm): number | string | undefined {
  const { algorithm, burst, limitKind } = form;
  const isBucket = algorithm === TOKEN_BUCKET && limitKind === 'amount' && !countsLeases(form);
  return isBucket && burst.trim() !== '' ? numberOrText(burst) : undefined;
}

/** Whether `form` limits leases that are alive at a time, which have no window. */
export function countsLeases({ unit }: Pick<PolicyForm, 'unit'>): boolean {
  return unit.trim() === CONCURRENCY;
}

/** Whether `form` has a window: an exemption or a ban may be for every window. */
export function hasWindow({
  unit,
  limitKind,
  everyWindow,
}: Pick<PolicyForm, 'unit' | 'limitKind' | 'everyWindow'>): boolean {
  if (countsLeases({ unit })) return false;
  return limitKind === 'amount' || (limitKind !== 'exemptAll' && !everyWindow);
}

function windowSecondsOf(form: PolicyForm): number | string | undefined {
  const { window, windowUnit } = form;
  if (!hasWindow(form) || window.trim() === '') return undefined;
  return numberOrText(window, (value) => value * (WINDOW_UNITS[windowUnit] ?? 1));
}

/** Only a policy that counts by address has a prefix. */
function ipv6PrefixOf(form: PolicyForm): number | string | undefined {
  if (form.ipv6Prefix.trim() === '' || !countsByAddress(form)) return undefined;
  return numberOrText(form.ipv6Prefix);
}

/** Whether `form` counts by address. */
export function countsByAddress({ scope, per }: Pick<PolicyForm, 'scope' | 'per'>): boolean {
  return attributesOf(scope === LISTED ? { per } : { scope }).includes('ip');
}

function acceptedOf({ test, values }: Condition): unknown {
  if (test !== 'values') return { [test]: true };
  return values.length === 1 ? values[0] : values;
}

function sharesOf(form: PolicyForm): Record<string, number | string> | undefined {
  const given = PRIORITY_CLASSES.filter((name) => form.shares[name].trim() !== '');
  if (given.length === 0) return undefined;
  return Object.fromEntries(
    given.map((name) => [name, numberOrText(form.shares[name], (value) => value / 100)]),
  );
}

/** Whether nodes can take parts of what `form` limits. */
export function canBeSplit(form: Pick<PolicyForm, 'unit' | 'limitKind' | 'algorithm'>): boolean {
  return form.limitKind === 'amount' && form.algorithm === NEW_POLICY.algorithm && !countsLeases(form);
}

/** What was typed before another way of counting was chosen is not sent. */
function splitOf(form: PolicyForm): { share: number | string } | undefined {
  if (!canBeSplit(form) || form.split.trim() === '') return undefined;
  return { share: numberOrText(form.split, shareOfPercent) };
}

/** 0.07 / 100 is exact to six decimals, as many as a share has. */
function shareOfPercent(percent: number): number {
  return Number((percent / 100).toPrecision(12));
}

function unitOf(form: PolicyForm): string | undefined {
  if (countsLeases(form)) return CONCURRENCY;
  return form.unit === NEW_POLICY.unit ? undefined : form.unit;
}

/** A lease is not recorded where it is denied, so such a policy has nothing to choose. */
function overLimitOf(form: PolicyForm): string | undefined {
  return countsLeases(form) || form.overLimit === NEW_POLICY.overLimit ? undefined : form.overLimit;
}

/** Slots are free when a lease expires, and an exemption holds nothing. */
function onExpireOf(form: PolicyForm): string | undefined {
  if (countsLeases(form) || isExemption(form) || form.onExpire === NEW_POLICY.onExpire) return undefined;
  return form.onExpire;
}

/** What `text` says as JSON; `undefined` if it is empty. What is no JSON is sent as it was typed. */
function jsonOrText(text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === '') return undefined;
  try {
    return JSON.parse(trimmed) as unknown;
  } catch {
    return trimmed;
  }
}

function isExemption({ limitKind }: PolicyForm): boolean {
  return limitKind === 'exempt' || limitKind === 'exemptAll';
}

/** An exemption reserves nothing. */
function reserveOf(form: PolicyForm): unknown {
  return isExemption(form) ? undefined : jsonOrText(form.reserve);
}

/** Whether `form` counts tokens, which have kinds. */
export function countsTokens({ unit }: Pick<PolicyForm, 'unit'>): boolean {
  return TOKEN_UNITS.includes(unit.trim());
}

/** What was typed before another unit was chosen is not sent. */
function weightsOf(form: PolicyForm): unknown {
  return isExemption(form) || !countsTokens(form) ? undefined : jsonOrText(form.weights);
}

function windowAndAlgorithmOf(form: PolicyForm): Record<string, unknown> {
  if (countsLeases(form)) return {};
  if (form.algorithm !== CALENDAR) {
    const algorithm = form.algorithm === NEW_POLICY.algorithm ? undefined : form.algorithm;
    return { windowSeconds: windowSecondsOf(form), algorithm };
  }
  if (!hasWindow(form)) return {};
  const timeZone = form.timeZone.trim();
  return { calendar: form.calendar, timeZone: timeZone === '' ? undefined : timeZone };
}

/**
 * What `form` sends. Defaults are left out, as the server leaves them out; what is not a number where one belongs is
 * sent as it was typed, so that the server's own words name the fault.
 */
export function policyOfForm(form: PolicyForm): Record<string, unknown> {
  const { conditions } = form;
  const per = form.scope === LISTED ? { per: form.per } : { scope: form.scope };
  const match = Object.fromEntries(
    conditions.map((condition) => [condition.attribute, acceptedOf(condition)]),
  );
  const fields: Record<string, unknown> = {
    id: form.id,
    ...per,
    ipv6Prefix: ipv6PrefixOf(form),
    match: conditions.length === 0 ? undefined : match,
    ignoreCase: form.ignoreCase ? true : undefined,
    unit: unitOf(form),
    weights: weightsOf(form),
    limit: limitOf(form),
    burst: burstOf(form),
    exempt: form.limitKind === 'exemptAll' ? 'all' : undefined,
    ...windowAndAlgorithmOf(form),
    split: splitOf(form),
    overrides: form.overrides.length === 0 ? undefined : form.overrides,
    mode: form.mode === NEW_POLICY.mode ? undefined : form.mode,
    overLimit: overLimitOf(form),
    onExpire: onExpireOf(form),
    reserve: reserveOf(form),
    visibility: form.visibility === NEW_POLICY.visibility ? undefined : form.visibility,
    onStoreError: form.onStoreError === '' ? undefined : form.onStoreError,
    enabled: form.enabled ? undefined : false,
    shares: sharesOf(form),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

const FIELD_OF: Readonly<Record<string, string>> = {
  limit: 'amount',
  exempt: 'limitKind',
  windowSeconds: 'window',
};

/** Whether `field`, as the server names it, is the condition on `attribute` or inside of it. */
function isCondition(field: string, attribute: string): boolean {
  return [`match.${attribute}`, `match[${JSON.stringify(attribute)}]`].some(
    (start) => field === start || field.startsWith(`${start}[`) || field.startsWith(`${start}.`),
  );
}

/** The form's field for a field that the server names; null if the form has none. */
export function policyFormPathOf(field: string, form: PolicyForm): string | null {
  if (field.startsWith('match')) {
    const row = form.conditions.findIndex(({ attribute }) => isCondition(field, attribute));
    if (row < 0) return null;
    return form.conditions[row]?.attribute === ''
      ? `conditions.${row}.attribute`
      : `conditions.${row}.values`;
  }
  const name = /^[^.[]*/u.exec(field)?.[0] ?? '';
  if (name === 'shares') return field === 'shares' ? 'shares.batch' : field;
  const path = FIELD_OF[name] ?? name;
  return path in NEW_POLICY ? path : null;
}
