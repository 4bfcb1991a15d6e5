/** Changes of leases in words. */
import type { LeaseChange } from '../../api/events';
import type { Tone } from '../../ui/StatusDot';
import { formatCount, unitInWords } from '../check/words';

const WORDS: Readonly<Record<string, { label: string; tone: Tone }>> = {
  extended: { label: 'Extended', tone: 'ok' },
  stopped: { label: 'Extended, no more room', tone: 'warn' },
  settled: { label: 'Settled', tone: 'ok' },
  settled_late: { label: 'Settled late', tone: 'warn' },
  corrected: { label: 'Settled again', tone: 'neutral' },
  released: { label: 'Released', tone: 'neutral' },
  expired: { label: 'Expired', tone: 'bad' },
};

/** What happened; an event that this console does not know is shown as the server names it. */
export function eventInWords(event: string): { label: string; tone: Tone } {
  return WORDS[event] ?? { label: event.replaceAll('_', ' '), tone: 'neutral' };
}

/** `tokens: 25 tokens, 40 before`, `parallel: slot free`; limits that stay as they were are left out, unless all do. */
export function chargesInWords({ limits }: LeaseChange): string {
  const changed = limits.filter(({ charged, chargedBefore }) => charged !== chargedBefore);
  const shown = changed.length > 0 ? changed : limits;
  const words = shown.map(({ policyId, unit, charged, chargedBefore }) => {
    if (unit === 'concurrency') return `${policyId}: ${charged > 0 ? 'slot taken' : 'slot free'}`;
    const amount = `${policyId}: ${formatCount(charged)} ${unitInWords(unit, charged)}`;
    return charged === chargedBefore ? amount : `${amount}, ${formatCount(chargedBefore)} before`;
  });
  return words.join('; ');
}

/** `90 above tokens`: the limits whose usage is above them. */
export function debtInWords({ limits }: LeaseChange): string {
  return limits
    .filter(({ debt }) => debt !== null && debt > 0)
    .map(({ policyId, debt }) => `${formatCount(debt ?? 0)} above ${policyId}`)
    .join('; ');
}
