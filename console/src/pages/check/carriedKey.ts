/**
 * An API key on its way from one page to the next. It is a secret: an address would keep it in the history, so it is
 * carried in memory, for the one check that it was given with.
 */
import { queryOfForm, type CheckForm } from './check';

let carried = { query: '', apiKey: '' };

/** Keeps the key of `form` until another one is carried, or none. */
export function carryApiKey(form: CheckForm): void {
  carried = { query: queryOfForm(form).toString(), apiKey: form.apiKey };
}

/** `form`, which an address named, with the key that was carried to it. */
export function withCarriedKey(form: CheckForm): CheckForm {
  return queryOfForm(form).toString() === carried.query ? { ...form, apiKey: carried.apiKey } : form;
}
