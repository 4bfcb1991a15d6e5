/** A check as the form holds it, as the address holds it, as the server takes it, and as a shell sends it. */
import type { components } from '../../api/schema';

export type Check = components['schemas']['Check'];

export interface CostRow {
  unit: string;
  amount: string;
}

/** An attribute that has no field of its own. */
export interface AttributeRow {
  name: string;
  value: string;
}

export interface CheckForm {
  user: string;
  model: string;
  tenant: string;
  apiKey: string;
  service: string;
  ip: string;
  cost: CostRow[];
  attributes: AttributeRow[];
}

/** What a newcomer finds, so that one press shows something. */
export const DEFAULT_FORM: CheckForm = {
  user: 'alice',
  model: 'gpt-4',
  tenant: '',
  apiKey: '',
  service: '',
  ip: '',
  cost: [],
  attributes: [],
};

/** What the address holds. An API key is a secret and is left out. */
const IN_ADDRESS = ['user', 'model', 'tenant', 'service', 'ip'] as const;

/** Whether the address's parameter `name` is a part of the check; a page may have others beside it. */
export function isOfCheck(name: string): boolean {
  return name === 'cost' || name === 'attribute' || IN_ADDRESS.some((one) => one === name);
}

/** The form that an address's query names. */
export function formOfQuery(query: URLSearchParams): CheckForm {
  const form: CheckForm = { ...DEFAULT_FORM, cost: [], attributes: [] };
  for (const name of IN_ADDRESS) form[name] = query.get(name) ?? form[name];
  for (const row of query.getAll('cost')) {
    // A unit may hold a `=`, an amount not.
    const [, unit = '', amount = ''] = /^(.*)=([^=]*)$/su.exec(row) ?? [];
    if (unit !== '') form.cost.push({ unit, amount });
  }
  for (const row of query.getAll('attribute')) {
    const [, name = '', value = ''] = /^([^=]*)=(.*)$/su.exec(row) ?? [];
    if (name !== '') form.attributes.push({ name: decoded(name), value });
  }
  return form;
}

/** The name of an attribute is encoded once more, since both it and its value may hold a `=`. */
function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

/** An attribute as a value of the address's parameter `attribute`. */
export function attributeInQuery(name: string, value: string): string {
  return `${encodeURIComponent(name)}=${value}`;
}

/** The address's query for `form`: what differs from the default. */
export function queryOfForm(form: CheckForm): URLSearchParams {
  const query = new URLSearchParams();
  for (const name of IN_ADDRESS) {
    if (form[name] !== DEFAULT_FORM[name]) query.set(name, form[name]);
  }
  for (const { unit, amount } of form.cost) {
    if (unit !== '') query.append('cost', `${unit}=${amount}`);
  }
  for (const { name, value } of form.attributes) {
    if (name !== '') query.append('attribute', attributeInQuery(name, value));
  }
  return query;
}

/** Whether anything is set that the form folds away. */
export function hasDetails(form: CheckForm): boolean {
  const { tenant, apiKey, service, ip, cost, attributes } = form;
  return [tenant, apiKey, service, ip].some((value) => value !== '') || cost.length + attributes.length > 0;
}

/** Whether `form` names anything that a check may be about. */
export function namesSubject(form: CheckForm): boolean {
  const attributes = form.attributes.map(({ name }) => name);
  return [form.user, form.model, form.tenant, form.apiKey, form.service, form.ip, ...attributes].some(
    (one) => one !== '',
  );
}

/** The check that the server is asked. */
export function checkOf(form: CheckForm): Check {
  const check: Check = {};
  if (form.user !== '') check.userId = form.user;
  if (form.model !== '') check.modelId = form.model;
  if (form.tenant !== '') check.tenantId = form.tenant;
  if (form.apiKey !== '') check.apiKey = form.apiKey;
  if (form.service !== '') check.service = form.service;
  if (form.ip !== '') check.ip = form.ip;
  const cost = form.cost.filter(({ unit }) => unit !== '');
  if (cost.length > 0)
    check.cost = Object.fromEntries(cost.map(({ unit, amount }) => [unit, Number(amount)]));
  const attributes = form.attributes.filter(({ name }) => name !== '');
  if (attributes.length > 0)
    check.attributes = Object.fromEntries(attributes.map(({ name, value }) => [name, value]));
  return check;
}

/** `text` as one word of a POSIX shell. */
export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** The same check for a terminal. */
export function curlOf(check: Check, url: string): string {
  return [
    `curl -sS ${shellQuoted(url)}`,
    `-H 'content-type: application/json'`,
    `-d ${shellQuoted(JSON.stringify(check))}`,
  ].join(' \\\n  ');
}

/** The form that `check` is the check of. */
export function formOfCheck(check: Check): CheckForm {
  return {
    user: check.userId ?? '',
    model: check.modelId ?? '',
    tenant: check.tenantId ?? '',
    apiKey: check.apiKey ?? '',
    service: check.service ?? '',
    ip: check.ip ?? '',
    cost: Object.entries(check.cost ?? {}).map(([unit, amount]) => ({ unit, amount: String(amount) })),
    attributes: Object.entries(check.attributes ?? {}).map(([name, value]) => ({ name, value })),
  };
}

/** What `check` asks of `unit`. */
export function costOf(check: Check, unit: string): number {
  return check.cost?.[unit] ?? (unit === 'requests' ? 1 : 0);
}

export type FormPath =
  | Exclude<keyof CheckForm, 'cost' | 'attributes'>
  | `cost.${number}.unit`
  | `cost.${number}.amount`
  | `attributes.${number}.name`
  | `attributes.${number}.value`;

const FIELD_OF: Readonly<Record<string, FormPath>> = {
  userId: 'user',
  modelId: 'model',
  tenantId: 'tenant',
  apiKey: 'apiKey',
  service: 'service',
  ip: 'ip',
};

const UNIT = /^[a-z][a-z0-9_]{0,63}$/u;
const AMOUNT = /^\d{1,16}$/u;

export function isAmount(text: unknown): boolean {
  return typeof text === 'string' && AMOUNT.test(text) && Number.isSafeInteger(Number(text));
}

/** Whether `field`, as the server names it, is the attribute called `name`. */
function isAttribute(field: string, name: string): boolean {
  return field === `attributes.${name}` || field === `attributes[${JSON.stringify(name)}]`;
}

/** The form's field for a field that the server names; null if the form has none. */
export function formPathOf(field: string, form: CheckForm): FormPath | null {
  const row = form.cost.findIndex(({ unit }) => unit !== '' && field === `cost.${unit}`);
  if (row >= 0) {
    const { unit, amount } = form.cost[row] ?? { unit: '', amount: '' };
    const isUnitWrong = !UNIT.test(unit) || isAmount(amount);
    return isUnitWrong ? `cost.${row}.unit` : `cost.${row}.amount`;
  }
  const attribute = form.attributes.findIndex(({ name }) => name !== '' && isAttribute(field, name));
  if (attribute >= 0) {
    // An empty value, or one that is too long, is seen from itself; anything else is wrong with the name.
    const value = form.attributes[attribute]?.value ?? '';
    const path = value === '' || value.length > 200 ? 'value' : 'name';
    return `attributes.${attribute}.${path}`;
  }
  if (field.startsWith('attributes') && form.attributes.length > 0) return 'attributes.0.name';
  if (field.startsWith('cost') && form.cost.length > 0) return 'cost.0.unit';
  return FIELD_OF[field] ?? null;
}
