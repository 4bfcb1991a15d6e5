/** The page that somebody wanted to see and had to sign in for. In memory: a new tab has wanted nothing yet. */

const AFTER_SIGN_IN = '/live';
const SIGN_IN = '/sign-in';

let wanted: string | null = null;

/** Notes that `address`, a path with its query, is where to go after signing in. */
export function wantToSee(address: string): void {
  if (address !== SIGN_IN) wanted = address;
}

/** Where to go after signing in. It is forgotten, so that the next sign-in starts anew. */
export function takeWanted(): string {
  const address = wanted ?? AFTER_SIGN_IN;
  wanted = null;
  return address;
}
