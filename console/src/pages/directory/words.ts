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
    headline: `Checks for ${named('tenant', id)} have tier ${own ?? 'default'}`,
    notes: [
      own === null
        ? 'Without a tier here, the tier that a check names itself applies; otherwise default.'
        : 'Users and API keys with their own tier have that one instead.',
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
      headline: `${who} and have tier ${own}`,
      notes: [`This overrides the tier of ${tenant}.`],
    };
  }
  if (tenantTier !== null) {
    return { headline: `${who} and have tier ${tenantTier}`, notes: [`It has the tier of ${tenant}.`] };
  }
  return { headline: `${who} and have its tier`, notes: ['If neither has a tier, it is default.'] };
}

function usedInWords(lastUsedAt: string): string {
  return lastUsedAt === ''
    ? 'has not been used yet'
    : `was last used at about ${formatMoment(Date.parse(lastUsedAt))}`;
}

export function apiKeyInWords(form: ApiKeyForm, nowMs: number): RecordWords {
  const { tenantId, userId, tier, expiresAt, revoked, prefix, lastUsedAt } = form;
  const user = given(userId);
  const whom = [named('tenant', tenantId), ...(user === null ? [] : [`user ${user}`])].join(' and ');
  const own = given(tier);
  const notes = [
    'The tenant, user and tier of the key override those that the check names.',
    own !== null ? `It has tier ${own}, which overrides the tiers of its user and its tenant.` : '',
    user === null ? 'It belongs to no user, so each check names one.' : '',
    untilInWords(expiresAt, nowMs),
    prefix === '' ? '' : `It starts with ${prefix} and ${usedInWords(lastUsedAt)}.`,
  ].filter(Boolean);
  if (revoked) return { headline: 'Revoked: every check with this key is denied', notes };
  // Text that is no date is not in the past.
  if (Date.parse(expiryOfText(expiresAt)) <= nowMs) {
    return { headline: 'Expired: every check with this key is denied', notes };
  }
  return { headline: `Checks with this key count for ${whom}`, notes };
}

/** When a class is denied while a limit runs out. */
export const PRIORITY_WORDS: Readonly<Record<PriorityClass, string>> = {
  batch: 'denied first',
  standard: 'denied after batch',
  premium: 'denied after standard',
  internal: 'denied last',
};

const PRIORITY_HEADLINES: Readonly<Record<PriorityClass, string>> = {
  batch: 'is denied first',
  standard: 'is denied after batch',
  premium: 'is denied after batch and standard',
  internal: 'is denied last',
};

export function tierInWords(form: TextForm<'id' | 'name' | 'priority'>): RecordWords {
  const priority = form.priority as PriorityClass;
  return {
    headline: `When there is not enough for everyone, ${named('tier', form.id)} ${PRIORITY_HEADLINES[priority]}`,
    notes: [
      'This applies to policies with shares, which reserve a part of the limit for more important classes.',
      form.id === 'default'
        ? 'Users without a tier have this one. It cannot be deleted.'
        : 'Tenants, users and API keys have a tier, and policies can have conditions on it.',
    ],
  };
}

export function modelTierInWords({ id }: TextForm<'id' | 'name'>): RecordWords {
  return {
    headline: `Policies for ${named('model tier', id)} apply to each of its models`,
    notes: ['One limit then also covers models that are added later.'],
  };
}

export function modelInWords({ id, modelTier }: TextForm<'id' | 'name' | 'modelTier'>): RecordWords {
  return {
    headline: `Policies for ${named('model tier', modelTier)} apply to checks for ${named('model', id)}`,
    notes: ['A policy can also have a condition on the model itself. Both policies then apply.'],
  };
}
