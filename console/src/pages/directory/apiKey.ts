/** An API key: its form, and whether it works. */
import type { components } from '../../api/schema';
import type { Tone } from '../../ui/StatusDot';
import { distanceInWords, expiryOfText, textOfExpiry } from './expiry';
import { bodyOfTexts, textFormOf, type TextForm } from './form';

export type ApiKey = components['schemas']['ApiKey'];

export const API_KEY_TEXTS = ['id', 'name', 'tenantId', 'userId', 'tier'] as const;

export type ApiKeyForm = TextForm<(typeof API_KEY_TEXTS)[number]> & {
  /** As it is typed, in UTC; empty for never. */
  expiresAt: string;
  revoked: boolean;
  /** These are shown, and not sent. Empty for a new key. */
  prefix: string;
  lastUsedAt: string;
};

export function formOfApiKey(key: ApiKey | null): ApiKeyForm {
  return {
    ...textFormOf(API_KEY_TEXTS, key),
    expiresAt: textOfExpiry(key?.expiresAt),
    revoked: key?.revoked ?? false,
    prefix: key?.prefix ?? '',
    lastUsedAt: key?.lastUsedAt ?? '',
  };
}

export function apiKeyOfForm(form: ApiKeyForm): Record<string, string | boolean> {
  const texts = Object.fromEntries(API_KEY_TEXTS.map((name) => [name, form[name]]));
  return { ...bodyOfTexts({ ...texts, expiresAt: expiryOfText(form.expiresAt) }), revoked: form.revoked };
}

/** A key that ends within this is marked. */
const SOON_MS = 7 * 86_400_000;

export interface KeyState {
  word: string;
  tone: Tone;
}

export function stateOf({ revoked, expiresAt }: ApiKey, nowMs: number): KeyState {
  if (revoked) return { word: 'revoked', tone: 'bad' };
  const endsMs = expiresAt === undefined ? Infinity : Date.parse(expiresAt);
  if (endsMs <= nowMs) return { word: 'expired', tone: 'bad' };
  if (endsMs - nowMs <= SOON_MS) return { word: `ends ${distanceInWords(nowMs, endsMs)}`, tone: 'warn' };
  return { word: 'active', tone: 'ok' };
}
