/** Figures and decisions in words. */
import type { DecisionEvent, Subject } from '../../api/events';
import { attributeInQuery } from '../check/check';
import { textOfPastDecision } from '../check/pastDecision';
import type { Part } from './series';

/** What stands for a figure that is not known. */
export const UNKNOWN = '–';

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en-US', { maximumFractionDigits: 1 });

export function formatNumber(value: number | null): string {
  return value === null ? UNKNOWN : whole.format(value);
}

/** A figure per second: `0.4`, `12`, `1,204`. */
export function formatRate(perSecond: number | null): string {
  if (perSecond === null) return UNKNOWN;
  return (perSecond < 10 ? tenths : whole).format(perSecond);
}

export function formatMicros(micros: number | null): string {
  if (micros === null) return UNKNOWN;
  if (micros < 1_000) return `${(micros < 10 ? tenths : whole).format(micros)} µs`;
  if (micros < 1_000_000) return `${tenths.format(micros / 1_000)} ms`;
  return `${tenths.format(micros / 1_000_000)} s`;
}

export function formatShare(share: number | null): string {
  if (share === null) return UNKNOWN;
  const percent = share * 100;
  // A few denials are not none, and a few admissions neither.
  if (percent > 0 && percent < 0.1) return '< 0.1 %';
  if (percent < 100 && percent > 99.9) return '> 99.9 %';
  return `${tenths.format(percent)} %`;
}

const minuteOfDay = new Intl.DateTimeFormat([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });

/** The time of day, to the minute. */
export function formatMinute(epochMs: number): string {
  return minuteOfDay.format(epochMs);
}

const REASONS: Readonly<Record<string, string>> = {
  limit_exceeded: 'limit used up',
  cost_exceeds_limit: 'cost above the limit',
  banned: 'banned',
  store_unavailable: 'store unavailable',
  api_key_revoked: 'API key revoked',
  api_key_expired: 'API key expired',
  api_key_unknown: 'API key unknown',
};

/** Why it was denied, or what else there is to say; empty where there is nothing. */
export function noteOf({ reason, degraded, policyId, needed, remaining }: DecisionEvent): string {
  if (reason === 'limit_exceeded' && needed !== null && remaining !== null) {
    return `Needed ${formatNumber(needed)}; ${formatNumber(remaining)} left`;
  }
  if (reason !== null) return REASONS[reason] ?? reason.replaceAll('_', ' ');
  if (degraded) return 'without the store';
  return policyId === null ? 'no limit' : '';
}

/** `2 of 10`; without the store nobody knows what others have used. */
export function usageOf({
  limit,
  count,
  degraded,
}: Pick<DecisionEvent, 'limit' | 'count' | 'degraded'>): string {
  if (limit === null) return '';
  if (count === null || (degraded && count === 0)) return 'usage unknown';
  return `${formatNumber(count)} of ${formatNumber(limit)}`;
}

const NAME_OF: Readonly<Record<string, string>> = {
  apiKey: 'API key',
  modelTier: 'model tier',
  ip: 'IP',
};

/** `tenant acme, IP 203.0.113.7`: of `subject`, what `left` does not name. */
export function detailsOf(subject: Subject, left: readonly string[] = ['user', 'model']): string {
  return Object.entries<string | null | undefined>(subject)
    .filter(([name, value]) => !left.includes(name) && value !== null && value !== undefined)
    .map(([name, value]) => `${NAME_OF[name] ?? name} ${value ?? ''}`)
    .join(', ');
}

export function partsInWords(parts: readonly Part[]): string {
  return parts.length === 0 ? UNKNOWN : parts.join(' and ');
}

/** Attributes that have a field in Explain. An API key is told by its ID only, which is no key. */
const FIELDS = ['user', 'model', 'tenant', 'service', 'ip'];
const LEFT_OUT = [...FIELDS, 'apiKey'];

/** The query of Explain with `subject` filled in; a user or a model that it does not name is left to the reader. */
function queryOf(subject: Subject): URLSearchParams {
  const query = new URLSearchParams({ user: '', model: '' });
  for (const name of FIELDS) {
    const value = subject[name];
    if (typeof value === 'string') query.set(name, value);
  }
  for (const [name, value] of Object.entries(subject)) {
    // The tier `default` is what a check has that says nothing.
    const isNews = !LEFT_OUT.includes(name) && !(name === 'tier' && value === 'default');
    if (isNews && typeof value === 'string') query.append('attribute', attributeInQuery(name, value));
  }
  return query;
}

/** The address of Explain for a check of `subject`. */
export function explainAddress(subject: Subject): string {
  return `/explain?${queryOf(subject).toString()}`;
}

/** The address of Explain for `decision`: the same check at the same cost, and what was decided then. */
export function explainDecisionAddress(decision: DecisionEvent): string {
  const query = queryOf(decision.subject);
  for (const [unit, amount] of Object.entries(decision.cost)) {
    if (unit !== 'requests' || amount !== 1) query.append('cost', `${unit}=${String(amount)}`);
  }
  query.set('decision', textOfPastDecision(decision));
  return `/explain?${query.toString()}`;
}
