/** What the playground knows: the last outcome, each limit's window, and how many checks ended how. Pure. */
import { costOf, type Check } from '../check/check';
import { attributesOf, type Decision, type Limit } from '../check/words';
import { observe, type LimitWindow } from './windowModel';

/** An answer to a check. */
export interface Outcome {
  readonly check: Check;
  readonly decision: Decision;
  /** When it arrived, in milliseconds of `performance.now()`. */
  readonly arrivedAt: number;
  readonly tookMs: number;
}

export interface Tally {
  readonly allowed: number;
  readonly denied: number;
}

export interface Playground {
  readonly last: Outcome | null;
  /** By `limitKey`. The least recently used are forgotten first. */
  readonly windows: ReadonlyMap<string, LimitWindow>;
  readonly tally: Tally;
}

export const EMPTY: Playground = { last: null, windows: new Map(), tally: { allowed: 0, denied: 0 } };

/** The most windows that are kept. */
export const MAX_WINDOWS = 50;

const FIELD_OF_ATTRIBUTE: Readonly<Record<string, keyof Check>> = {
  user: 'userId',
  model: 'modelId',
  tenant: 'tenantId',
  apiKey: 'apiKey',
  service: 'service',
  ip: 'ip',
};

/**
 * What tells the limit of `limit` and `check` from others. Where it is kept per something that the catalog adds, such
 * as a tier, the whole subject stands for it: two subjects of one tier then have windows of their own here.
 */
export function limitKey(limit: Limit, check: Check): string {
  const attributes = attributesOf(limit.scope);
  const isKnown = attributes.every((name) => name in FIELD_OF_ATTRIBUTE);
  const names = isKnown ? attributes : Object.keys(FIELD_OF_ATTRIBUTE);
  const values = names.map((name) => {
    const field = FIELD_OF_ATTRIBUTE[name];
    return field === undefined ? null : (check[field] ?? null);
  });
  return JSON.stringify([limit.policyId, limit.unit, limit.scope, values]);
}

/** The limit that decided; null where none was met. */
export function bindingLimit(decision: Decision): Limit | null {
  return decision.limits.find(({ policyId }) => policyId === decision.policyId) ?? null;
}

function observeLimit(windows: Map<string, LimitWindow>, limit: Limit, outcome: Outcome): void {
  // Of concurrency, to which a check adds nothing.
  if (limit.windowSeconds === null) return;
  const key = limitKey(limit, outcome.check);
  const isCharged = (outcome.decision.allowed && limit.allowed) || limit.overLimit === 'charge';
  const window = observe(windows.get(key), {
    sentAt: outcome.arrivedAt - outcome.tookMs,
    at: outcome.arrivedAt,
    policyId: limit.policyId,
    unit: limit.unit,
    scope: limit.scope,
    algorithm: limit.algorithm,
    limit: limit.limit,
    windowMs: limit.windowSeconds * 1_000,
    admits: limit.allowed,
    isDenied: !outcome.decision.allowed,
    charged: isCharged ? costOf(outcome.check, limit.unit) : 0,
    count: limit.count,
  });
  windows.delete(key);
  windows.set(key, window);
}

/** Adds `outcomes`, in the order of their arrival. */
export function record(state: Playground, outcomes: readonly Outcome[]): Playground {
  const windows = new Map(state.windows);
  let { allowed, denied } = state.tally;
  for (const outcome of outcomes) {
    if (outcome.decision.allowed) allowed += 1;
    else denied += 1;
    // Without the store nothing was charged there, so the windows do not know of it.
    if (outcome.decision.degraded) continue;
    for (const limit of outcome.decision.limits) observeLimit(windows, limit, outcome);
  }
  for (const key of windows.keys()) {
    if (windows.size <= MAX_WINDOWS) break;
    windows.delete(key);
  }
  return { last: outcomes.at(-1) ?? state.last, windows, tally: { allowed, denied } };
}
