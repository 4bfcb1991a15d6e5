/**
 * The admin token of this tab. It is kept in session storage only, so that it ends with the tab, and never in the
 * address, where it would be kept in the history.
 */
import { useSyncExternalStore } from 'react';

const KEY = 'tollgate.admin-token';

/** Why there is no token. */
export type SignedOutReason = 'none' | 'refused';

export interface Session {
  readonly token: string | null;
  readonly reason: SignedOutReason;
}

const listeners = new Set<() => void>();
let session: Session = { token: readStored(), reason: 'none' };

function readStored(): string | null {
  try {
    return window.sessionStorage.getItem(KEY);
  } catch {
    // Storage is off in this browser: the token then lives as long as the page.
    return null;
  }
}

function change(next: Session): void {
  session = next;
  try {
    if (next.token === null) window.sessionStorage.removeItem(KEY);
    else window.sessionStorage.setItem(KEY, next.token);
  } catch {
    // As above.
  }
  for (const listener of listeners) listener();
}

export function getSession(): Session {
  return session;
}

export function signIn(token: string): void {
  change({ token, reason: 'none' });
}

export function signOut(): void {
  change({ token: null, reason: 'none' });
}

/** Drops `token`, which the server refused, unless another one has taken its place. */
export function dropRefused(token: string): void {
  if (session.token === token) change({ token: null, reason: 'refused' });
}

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useSession(): Session {
  return useSyncExternalStore(subscribe, getSession);
}

/** The token in a sign-in link's fragment (`#/sign-in?token=…`); null if it is no such link. */
export function tokenInFragment(fragment: string): string | null {
  const [path, query = ''] = fragment.replace(/^#/, '').split('?', 2);
  if (path !== '/sign-in') return null;
  const token = new URLSearchParams(query).get('token')?.trim();
  return token === undefined || token === '' ? null : token;
}
