/** What each record of the directory does to a check, in words. */
import { formatMoment } from '../../ui/formatMoment';
import type { PriorityClass } from '../policies/policy';
import type { ApiKeyForm } from './apiKey';
import { expiryOfText, untilInWords } from './expiry';
import type { TextForm } from './form';

export interface RecordWords {
  headline: string;
  notes: readonly string[];
}

/** `name`, or what stands for it while it is not typed yet. */
function named(what: string, id: string): string {
  return id.trim() === '' ? `this ${what}` : `${what} ${id}`;
}

/** The id that is typed; null for none. */
function given(id: string): string | null {
  return id.trim() === '' ? null : id;
}

export function tenantInWords({ id, tier }: TextForm<'id' | 'name' | 'tier'>): RecordWords {
  const own = given(tier);
  return {
    headline: `Checks for ${named('tenant', id)} count as tier ${own ?? 'default'}`,
    notes: [
      own === null
        ? 'It has no tier of its own: what a check says for itself comes before default.'
        : 'Its users and API keys that have a tier of their own count as that instead.',
    ],
  };
}

export function userInWords(
  { id, tenantId, tier }: TextForm<'id' | 'name' | 'tenantId' | 'tier'>,
  tenantTier: string | null,
): RecordWords {
  const tenant = named('tenant', tenantId);
  const who = `Checks of ${named('user', id)} count for ${tenant}`;
  const own = given(tier);
  if (own !== null) {
    return {
      headline: `${who}, as tier ${own}`,
      notes: [`The tier is its own, whatever that of ${tenant} is.`],
    };
  }
  if (tenantTier !== null) {
    return { headline: `${who}, as tier ${tenantTier}`, notes: [`The tier is that of ${tenant}.`] };
  }
  return { headline: `${who}, as its tier`, notes: ['If neither has a tier, it is default.'] };
}

function usedInWords(lastUsedAt: string): string {
  return lastUsedAt === ''
    ? 'was not used yet'
    : `was last used about ${formatMoment(Date.parse(lastUsedAt))}`;
}

export function apiKeyInWords(form: ApiKeyForm, nowMs: number): RecordWords {
  const { tenantId, userId, tier, expiresAt, revoked, prefix, lastUsedAt } = form;
  const user = given(userId);
  const whom = [named('tenant', tenantId), ...(user === null ? [] : [`user ${user}`])].join(' and ');
  const own = given(tier);
  const notes = [
    'What the key says stands before what the check says of its tenant, user and tier.',
    own !== null ? `It counts as tier ${own}, before the tiers of its user and its tenant.` : '',
    user === null ? 'It has no user of its own: the check names one.' : '',
    untilInWords(expiresAt, nowMs),
    prefix === '' ? '' : `It starts with ${prefix} and ${usedInWords(lastUsedAt)}.`,
  ].filter(Boolean);
  if (revoked) return { headline: 'It is revoked: every check with it is denied', notes };
  // What is no moment is not less than any.
  if (Date.parse(expiryOfText(expiresAt)) <= nowMs) {
    return { headline: 'It has expired: every check with it is denied', notes };
  }
  return { headline: `Checks with this key count for ${whom}`, notes };
}

/** Where a class stands when not everyone can pass. */
export const PRIORITY_WORDS: Readonly<Record<PriorityClass, string>> = {
  batch: 'shed first',
  standard: 'shed after batch',
  premium: 'shed after standard',
  internal: 'shed last',
};

const PRIORITY_HEADLINES: Readonly<Record<PriorityClass, string>> = {
  batch: 'is the first to be turned away',
  standard: 'is turned away once batch is',
  premium: 'is turned away once batch and standard are',
  internal: 'is the last to be turned away',
};

export function tierInWords(form: TextForm<'id' | 'name' | 'priority'>): RecordWords {
  const priority = form.priority as PriorityClass;
  return {
    headline: `When not everyone can pass, ${named('tier', form.id)} ${PRIORITY_HEADLINES[priority]}`,
    notes: [
      'That is for policies with shares, which keep room for the more important classes; the others treat all alike.',
      form.id === 'default'
        ? 'Whoever has no tier counts as this one. It cannot be deleted.'
        : 'Policies name it; tenants, users and API keys count as it.',
    ],
  };
}

export function modelTierInWords({ id }: TextForm<'id' | 'name'>): RecordWords {
  return {
    headline: `Policies for ${named('model tier', id)} apply to each of its models`,
    notes: ['A class of models by price or size: one limit then covers models that are made later, too.'],
  };
}

export function modelInWords({ id, modelTier }: TextForm<'id' | 'name' | 'modelTier'>): RecordWords {
  return {
    headline: `Checks for ${named('model', id)} meet the policies for ${named('model tier', modelTier)}`,
    notes: ['A policy may name the model itself, too: of two with as many conditions, both apply.'],
  };
}
