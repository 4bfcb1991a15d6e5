/** Limits and decisions in words. */
import type { components } from '../../api/schema';
import { formatWindow } from '../../ui/time';

export type Decision = components['schemas']['Decision'];
export type Limit = components['schemas']['Limit'];

const PER_OF_SCOPE: Readonly<Record<string, readonly string[]>> = {
  GLOBAL: [],
  TENANT: ['tenant'],
  USER: ['user'],
  API_KEY: ['apiKey'],
  MODEL: ['model'],
  MODEL_TIER: ['modelTier'],
  USER_MODEL: ['user', 'model'],
  SERVICE: ['service', 'user'],
  IP: ['ip'],
};

const NAME_OF: Readonly<Record<string, string>> = {
  apiKey: 'API key',
  modelTier: 'model tier',
  ip: 'IP address',
};

/** The attributes that a limit is kept per: `USER_MODEL` and `user+model` alike. */
export function attributesOf(scope: string): readonly string[] {
  return PER_OF_SCOPE[scope] ?? scope.split('+');
}

/** `each user and model`. */
export function scopeInWords(scope: string): string {
  const names = attributesOf(scope).map((name) => NAME_OF[name] ?? name);
  const last = names.at(-1);
  if (last === undefined) return 'all checks together';
  return names.length === 1 ? `each ${last}` : `each ${names.slice(0, -1).join(', ')} and ${last}`;
}

const whole = new Intl.NumberFormat('en-US');

export function formatCount(value: number): string {
  return whole.format(value);
}

/** `requests`, `output tokens`. */
export function unitInWords(unit: string, amount = 2): string {
  const words = unit === 'concurrency' ? 'leases' : unit.replaceAll('_', ' ');
  return amount === 1 && words.endsWith('s') ? words.slice(0, -1) : words;
}

/** `100 requests in 1 hour for each user and model`, `5 leases at a time for each user`. */
export function limitInWords(limit: {
  limit: number;
  unit: string;
  windowSeconds: number | null;
  scope: string;
}): string {
  const amount = `${formatCount(limit.limit)} ${unitInWords(limit.unit, limit.limit)}`;
  const when = limit.windowSeconds === null ? 'at a time' : `in ${formatWindow(limit.windowSeconds)}`;
  return `${amount} ${when} for ${scopeInWords(limit.scope)}`;
}

const REASONS: Readonly<Record<string, string>> = {
  limit_exceeded: 'The limit is used up.',
  cost_exceeds_limit: 'The cost is above the limit itself, so this check is never allowed.',
  banned: 'The policy denies every check.',
  store_unavailable: 'The store is unavailable, and the failure mode is deny.',
  api_key_revoked: 'The API key was revoked.',
  api_key_expired: 'The API key has expired.',
  api_key_unknown: 'The API key is unknown.',
};

/** Why a check was denied; null if it was not. */
export function reasonInWords(decision: Pick<Decision, 'reason'>): string | null {
  if (decision.reason === null) return null;
  return REASONS[decision.reason] ?? decision.reason.replaceAll('_', ' ');
}

/** The outcome in one sentence, for those who do not see it. */
export function announcementOf(decision: Decision): string {
  const verdict = decision.allowed ? 'Allowed' : 'Denied';
  if (decision.limit === null || decision.policyId === null) {
    return `${verdict}. ${reasonInWords(decision) ?? 'No limit applies.'}`;
  }
  const count = `${formatCount(decision.count)} of ${formatCount(decision.limit)} ${unitInWords(decision.unit)} used`;
  return `${verdict} by policy ${decision.policyId}: ${count}.`;
}
