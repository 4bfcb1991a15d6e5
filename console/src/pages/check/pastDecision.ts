/** A decision that was made before, as Live hands it to Explain in the address. */
import type { DecisionEvent } from '../../api/events';
import { formatTime } from '../../ui/time';
import { formatCount, reasonInWords, unitInWords } from './words';

export interface PastDecision {
  /** Milliseconds since 1970. */
  at: number;
  allowed: boolean;
  reason: string | null;
  policyId: string | null;
  unit: string | null;
  limit: number | null;
  needed: number | null;
  remaining: number | null;
  /** Whether the check had an API key, which no address holds. */
  hasApiKey: boolean;
}

export function textOfPastDecision(decision: DecisionEvent): string {
  const { at, allowed, reason, policyId, unit, limit, needed, remaining, subject } = decision;
  const hasApiKey = typeof subject.apiKey === 'string';
  const past: PastDecision = { at, allowed, reason, policyId, unit, limit, needed, remaining, hasApiKey };
  return JSON.stringify(past);
}

function isNumberOrNull(value: unknown): boolean {
  return value === null || (typeof value === 'number' && Number.isFinite(value));
}

function isTextOrNull(value: unknown): boolean {
  return value === null || typeof value === 'string';
}

/** The decision in an address; null for anything else. */
export function pastDecisionOf(text: string): PastDecision | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const past = value as Partial<PastDecision>;
  const numbers = [past.limit, past.needed, past.remaining];
  const texts = [past.reason, past.policyId, past.unit];
  const isWhole =
    typeof past.at === 'number' &&
    typeof past.allowed === 'boolean' &&
    typeof past.hasApiKey === 'boolean' &&
    numbers.every(isNumberOrNull) &&
    texts.every(isTextOrNull);
  return isWhole ? (past as PastDecision) : null;
}

/** `Denied at 12:03:05 by policy p. Needed 2,100 tokens; 1,439 of 60,000 left.` */
export function pastDecisionInWords(past: PastDecision): string {
  const { at, allowed, reason, policyId, unit, limit, needed, remaining } = past;
  const by = policyId === null ? '' : ` by policy ${policyId}`;
  const verdict = `${allowed ? 'Allowed' : 'Denied'} at ${formatTime(at)}${by}.`;
  if (unit === null || limit === null || needed === null || remaining === null) {
    return [verdict, reasonInWords({ reason })].filter(Boolean).join(' ');
  }
  const left = `${formatCount(remaining)} of ${formatCount(limit)} left`;
  const amount = `${formatCount(needed)} ${unitInWords(unit, needed)}`;
  return allowed ? `${verdict} Used ${amount}; ${left} afterwards.` : `${verdict} Needed ${amount}; ${left}.`;
}
