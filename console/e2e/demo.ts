/** A catalog that a company could have, for the users and tenants of `npm run traffic`. */

const PRIORITY_OF = { free: 'batch', pro: 'standard', enterprise: 'premium' };
const TIER_OF = { acme: 'enterprise', globex: 'pro', initech: 'free', umbrella: 'pro' };
const MODEL_TIER_OF = {
  'gpt-4': 'premium',
  'claude-3-opus': 'premium',
  'llama-3-70b': 'standard',
  'mistral-small': 'small',
};

function idsOf(names: object): { id: string }[] {
  return Object.keys(names).map((id) => ({ id }));
}

const policies = [
  { id: 'default', scope: 'USER_MODEL', limit: 300, windowSeconds: 3_600 },
  { id: 'free-minute', scope: 'USER_MODEL', match: { tier: 'free' }, limit: 40, windowSeconds: 60 },
  { id: 'pro-minute', scope: 'USER_MODEL', match: { tier: 'pro' }, limit: 120, windowSeconds: 60 },
  {
    id: 'enterprise-premium',
    scope: 'USER_MODEL',
    match: { tier: 'enterprise', modelTier: 'premium' },
    limit: 600,
    windowSeconds: 60,
  },
  { id: 'user-tokens', scope: 'USER', unit: 'tokens', limit: 150_000, windowSeconds: 60 },
  {
    id: 'tenant-tokens',
    scope: 'TENANT',
    unit: 'tokens',
    limit: 8_000_000,
    windowSeconds: 60,
    shares: { batch: 0.6, standard: 0.9 },
  },
  { id: 'longest-prompt', scope: 'USER', unit: 'input_tokens', limit: 7_000, windowSeconds: 1 },
  {
    id: 'model-burst',
    scope: 'MODEL',
    limit: 700,
    windowSeconds: 10,
    algorithm: 'sliding_window_counter',
  },
  { id: 'payments', scope: 'SERVICE', match: { service: 'payments' }, limit: 30, windowSeconds: 60 },
  { id: 'scraper', scope: 'USER', match: { user: 'user-013' }, limit: 0 },
  { id: 'partner', scope: 'USER_MODEL', match: { tenant: 'acme', user: 'user-004' }, limit: null },
  { id: 'blocked-address', scope: 'IP', match: { ip: '203.0.113.7' }, limit: 0 },
  {
    id: 'output-trial',
    scope: 'USER',
    unit: 'output_tokens',
    limit: 5_000,
    windowSeconds: 60,
    mode: 'shadow',
  },
  { id: 'night-shift', scope: 'TENANT', limit: 50_000, windowSeconds: 86_400, enabled: false },
];

export const demoCatalog = {
  tiers: Object.entries(PRIORITY_OF).map(([id, priority]) => ({ id, priority })),
  tenants: Object.entries(TIER_OF).map(([id, tier]) => ({ id, tier })),
  modelTiers: idsOf({ premium: true, standard: true, small: true }),
  models: Object.entries(MODEL_TIER_OF).map(([id, modelTier]) => ({ id, modelTier })),
  policies,
};
