/** A policy as the server has it. */
import { adminCall } from '../../api/admin';
import { ProblemError, type FieldProblem } from '../../api/problem';

export interface Policy {
  id: string;
  /** A short name for `per`; one of the two is there. */
  scope?: string;
  per?: string[];
  match?: Record<string, string | string[]>;
  unit?: string;
  /** Null exempts, 0 bans. */
  limit: number | null;
  /** The capacity of a token bucket, if it is not the limit. */
  burst?: number;
  windowSeconds?: number;
  algorithm?: string;
  mode?: string;
  onStoreError?: string;
  enabled?: boolean;
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
