/** Explanations for tests. */
import type { ConsideredPolicy, Explanation, Subject } from './explanation';

export const SUBJECT: Subject = {
  user: 'alice',
  model: 'gpt-4',
  tenant: 'acme',
  apiKey: null,
  tier: 'free',
  modelTier: 'premium',
  service: null,
  ip: null,
};

export function consideredOf(policyId: string, change: Partial<ConsideredPolicy> = {}): ConsideredPolicy {
  const takesPart = change.limit !== undefined && change.limit !== null;
  return {
    policyId,
    outcome: 'applies',
    why: 'all its conditions hold',
    overriddenBy: null,
    unmet: [],
    key: takesPart ? 'user=alice' : null,
    limit: null,
    share: null,
    count: null,
    remaining: null,
    debt: null,
    retryAfterMs: takesPart ? 0 : null,
    resetAfterMs: null,
    ...change,
  };
}

export function explanationOf(bindingPolicyId: string | null, policies: ConsideredPolicy[]): Explanation {
  return {
    allowed: true,
    reason: null,
    bindingPolicyId,
    degraded: false,
    policiesVersion: 1,
    subject: SUBJECT,
    userKnown: true,
    tenantKnown: true,
    tierSource: 'catalog',
    priority: 'standard',
    policies,
  };
}
