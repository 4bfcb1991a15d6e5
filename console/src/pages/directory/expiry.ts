/** When an API key ends, as it is typed: in UTC, so that everyone who reads it reads the same. */
import { formatMoment } from '../../ui/formatMoment';

const DAY_MS = 86_400_000;

const DATE = /^\d{4}-\d{2}-\d{2}$/u;
const DATE_AND_TIME = /^(\d{4}-\d{2}-\d{2})[ T](\d{2}:\d{2})(:\d{2}(?:\.\d{1,3})?)?Z?$/u;

/** `2027-01-31T18:00:00Z` as `2027-01-31 18:00`. */
export function textOfExpiry(expiresAt: string | undefined): string {
  const parts = DATE_AND_TIME.exec(expiresAt ?? '');
  if (parts === null) return expiresAt ?? '';
  const [, date = '', minutes = '', seconds = ''] = parts;
  return `${date} ${minutes}${seconds === ':00' ? '' : seconds}`;
}

/** What is sent for `text`; what is no moment goes as it was typed, for the server to complain about. */
export function expiryOfText(text: string): string {
  const trimmed = text.trim();
  if (DATE.test(trimmed)) return `${trimmed}T00:00:00Z`;
  const parts = DATE_AND_TIME.exec(trimmed);
  if (parts === null) return trimmed;
  const [, date = '', minutes = '', seconds = ':00'] = parts;
  return `${date}T${minutes}${seconds}Z`;
}

/** The moment so many days from now, to the minute. */
export function expiryInDays(days: number, nowMs: number): string {
  return textOfExpiry(`${new Date(nowMs + days * DAY_MS).toISOString().slice(0, 16)}:00Z`);
}

const relative = new Intl.RelativeTimeFormat('en', { numeric: 'always' });

const UNITS: readonly [number, Intl.RelativeTimeFormatUnit][] = [
  [365 * DAY_MS, 'year'],
  [DAY_MS, 'day'],
  [3_600_000, 'hour'],
  [60_000, 'minute'],
  [1_000, 'second'],
];

/** `in 71 days`, `3 hours ago`. */
export function distanceInWords(fromMs: number, toMs: number): string {
  const ms = toMs - fromMs;
  const [size, unit] = UNITS.find(([each]) => Math.abs(ms) >= 2 * each) ?? [1_000, 'second'];
  return relative.format(Math.round(ms / size), unit);
}

/** How long a key with this text for its end works. */
export function untilInWords(text: string, nowMs: number): string {
  if (text.trim() === '') return 'It never expires.';
  const atMs = Date.parse(expiryOfText(text));
  if (Number.isNaN(atMs)) return '';
  const verb = atMs <= nowMs ? 'It expired' : 'It expires';
  return `${verb} ${distanceInWords(nowMs, atMs)}, at ${formatMoment(atMs)} your time.`;
}
