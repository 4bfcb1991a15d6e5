/** A policy as the server has it. */
import { adminCall } from '../../api/admin';
import { ProblemError, type FieldProblem } from '../../api/problem';

/** What a condition accepts: values, prefixes and address blocks, any value, or none. */
export type Accepted = string | string[] | { present: true } | { absent: true };

export interface Policy {
  id: string;
  /** A short name for `per`; one of the two is there. */
  scope?: string;
  per?: string[];
  /** How many leading bits of an IPv6 address are counted together, if not 64. */
  ipv6Prefix?: number;
  match?: Record<string, Accepted>;
  ignoreCase?: boolean;
  unit?: string;
  /** Null exempts, 0 bans. */
  limit: number | null;
  /** The capacity of a token bucket, if it is not the limit. */
  burst?: number;
  /** `all` exempts from every limit. */
  exempt?: string;
  /** How nodes take parts of it ahead of time: at most this share of what is left. */
  split?: { share: number };
  windowSeconds?: number;
  /** In place of a window: the period that it holds for, from its start on. */
  calendar?: string;
  /** The time zone of `calendar`, if it is not UTC. */
  timeZone?: string;
  algorithm?: string;
  /** The ids of policies that it overrides besides less specific ones of its own kind. */
  overrides?: string[];
  mode?: string;
  /** What it records of a denied check, if not nothing. */
  overLimit?: string;
  /** What becomes of what an expired lease has reserved, if it is not kept. */
  onExpire?: string;
  /** How much a token of a kind counts, if not 1. */
  weights?: Record<string, number>;
  /** How much a lease reserves that does not say, by unit. */
  reserve?: Record<string, { quantile?: number; atLeast?: number; atMost: number }>;
  /** Whether header fields name it, if not public. */
  visibility?: string;
  onStoreError?: string;
  enabled?: boolean;
  /** Why it may do less than it seems to. */
  warnings?: { field: string; problem: string }[];
  /** `built-in` of the policy of a new catalog. */
  source?: string;
  /** The part of the limit up to which a priority class is admitted. */
  shares?: Partial<Record<string, number>>;
}

/** The scopes that have a name, and what they count per. */
export const SCOPES: Readonly<Record<string, readonly string[]>> = {
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

/** The unit of leases: it has a limit and no window. */
export const CONCURRENCY = 'concurrency';

/** The units of tokens, which have kinds with weights. */
export const TOKEN_UNITS: readonly string[] = ['tokens', 'input_tokens', 'output_tokens'];

/** The least important first. */
export const PRIORITY_CLASSES = ['batch', 'standard', 'premium', 'internal'] as const;
export type PriorityClass = (typeof PRIORITY_CLASSES)[number];

export const BUILT_IN_ATTRIBUTES = [
  'user',
  'model',
  'tenant',
  'apiKey',
  'service',
  'ip',
  'tier',
  'modelTier',
] as const;

/** Whether a condition asks for certain values, for any, or for none. */
export type ConditionTest = 'values' | 'present' | 'absent';

/** One condition of a policy. */
export interface Condition {
  attribute: string;
  test: ConditionTest;
  /** Empty unless it asks for values. */
  values: string[];
}

/** The condition that `accepted` writes. */
export function conditionOf(attribute: string, accepted: Accepted): Condition {
  if (typeof accepted === 'string') return { attribute, test: 'values', values: [accepted] };
  if (Array.isArray(accepted)) return { attribute, test: 'values', values: accepted };
  return { attribute, test: 'absent' in accepted ? 'absent' : 'present', values: [] };
}

export function conditionsOf(policy: Pick<Policy, 'match'>): Condition[] {
  return Object.entries(policy.match ?? {}).map(([attribute, accepted]) => conditionOf(attribute, accepted));
}

/** What `policy` counts per. */
export function attributesOf(policy: Pick<Policy, 'scope' | 'per'>): readonly string[] {
  return policy.per ?? SCOPES[policy.scope ?? ''] ?? [];
}

/** What the server finds wrong with `policy`, which it does not keep. */
export async function validatePolicy(policy: unknown, signal: AbortSignal): Promise<readonly FieldProblem[]> {
  try {
    await adminCall('/admin/policies/validate', { method: 'POST', body: policy, signal });
    return [];
  } catch (error) {
    if (error instanceof ProblemError && error.errors.length > 0) return error.errors;
    throw error;
  }
}
