/**
 * What is wrong with a field, in the words of its form. The server decides that a value is wrong; which of the usual
 * mistakes it is can be seen from the value. For any other the server's own words stand.
 */
import type { FieldProblem } from '../../api/problem';

type FieldType = 'text' | 'reference' | 'amount' | 'window' | 'percent' | 'moment' | 'ip' | 'unit' | 'list';

interface Rule {
  /** With its article, where one is asked to enter it. */
  what: string;
  type: FieldType;
}

const RULES: Readonly<Record<string, Rule>> = {
  id: { what: 'an ID', type: 'text' },
  name: { what: 'a name', type: 'text' },
  value: { what: 'a value', type: 'text' },
  attribute: { what: 'an attribute', type: 'text' },
  user: { what: 'a user', type: 'text' },
  model: { what: 'a model', type: 'text' },
  tenant: { what: 'a tenant', type: 'text' },
  apiKey: { what: 'an API key', type: 'text' },
  service: { what: 'a service', type: 'text' },
  policy: { what: 'a policy', type: 'text' },
  tenantId: { what: 'a tenant', type: 'reference' },
  userId: { what: 'a user', type: 'reference' },
  tier: { what: 'a tier', type: 'reference' },
  modelTier: { what: 'a model tier', type: 'reference' },
  ip: { what: 'an IPv4 or IPv6 address', type: 'ip' },
  unit: { what: 'a unit', type: 'unit' },
  amount: { what: 'a limit', type: 'amount' },
  window: { what: 'a window', type: 'window' },
  shares: { what: 'a share', type: 'percent' },
  expiresAt: { what: 'a date', type: 'moment' },
  values: { what: 'at least one value', type: 'list' },
  per: { what: 'each attribute once', type: 'list' },
};

const MAX_BYTES = 256;
const MAX_AMOUNT = Number.MAX_SAFE_INTEGER;

/** `cost.0.unit` is a `unit`, `shares.batch` one of the `shares`. */
function ruleOf(path: string): Rule | undefined {
  const parts = path.split('.').filter((part) => !/^\d+$/u.test(part));
  if (parts[0] === 'shares') return RULES.shares;
  return RULES[parts.at(-1) ?? ''];
}

function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

function textMistake(text: string): string | null {
  const bytes = bytesOf(text);
  if (bytes > MAX_BYTES) return `Too long: ${bytes} bytes, at most ${MAX_BYTES}.`;
  if (/\p{Cc}/u.test(text)) return 'Remove the line break or other control character.';
  return null;
}

function amountMistake(text: string): string | null {
  if (!/^[+-]?\d+$/u.test(text)) return 'Enter a whole number.';
  if (Number(text) < 0) return 'Enter 0 or more.';
  return Number(text) > MAX_AMOUNT ? `Enter at most ${MAX_AMOUNT.toLocaleString('en-US')}.` : null;
}

function windowMistake(text: string): string | null {
  return /^[+-]?\d+(\.\d+)?$/u.test(text)
    ? 'Enter a window of 0.001 seconds to 366 days.'
    : 'Enter a number.';
}

function unknownMistake(text: string, rule: Rule, { problem }: FieldProblem): string | null {
  if (problem.startsWith('there is no ') && problem.includes(` ${JSON.stringify(text)}`)) {
    return `Unknown ${rule.what.replace(/^an? /u, '')} "${text}".`;
  }
  return problem.includes('another tenant') ? 'This user belongs to another tenant.' : null;
}

function mistake(text: string, rule: Rule, problem: FieldProblem): string | null {
  switch (rule.type) {
    case 'text':
      return text === '.' || text === '..'
        ? 'Choose another ID: "." and ".." are reserved.'
        : textMistake(text);
    case 'reference':
      return textMistake(text) ?? unknownMistake(text, rule, problem);
    case 'amount':
      return amountMistake(text);
    case 'window':
      return windowMistake(text);
    case 'percent':
      return /^\d+(\.\d+)?$/u.test(text) && Number(text) <= 100 ? null : 'Enter a percentage from 0 to 100.';
    case 'moment':
      return 'Enter a date up to the year 2554, such as 2030-12-31 or 2030-12-31 18:00.';
    case 'ip':
      return 'Enter an IPv4 or IPv6 address.';
    case 'unit':
      return /^[a-z][a-z0-9_]{0,63}$/u.test(text)
        ? null
        : 'Use lower-case letters, digits and _, starting with a letter.';
    case 'list':
      return null;
  }
}

/** `Is not accepted. Accepted: 1 to 256 bytes`: the server's own words, as sentences. */
export function serverWords({ problem, accepted }: FieldProblem): string {
  const sentence = problem.charAt(0).toUpperCase() + problem.slice(1);
  return accepted === '' ? `${sentence}.` : `${sentence}. Accepted: ${accepted}.`;
}

/** What is wrong with the form's field at `path`, which holds `value`. */
export function problemInWords(path: string, value: unknown, problem: FieldProblem): string {
  const rule = ruleOf(path);
  if (rule === undefined) return serverWords(problem);
  if (Array.isArray(value)) return value.length === 0 ? `Enter ${rule.what}.` : serverWords(problem);
  const text = typeof value === 'string' ? value.trim() : '';
  if (text === '') return `Enter ${rule.what}.`;
  return mistake(text, rule, problem) ?? serverWords(problem);
}
