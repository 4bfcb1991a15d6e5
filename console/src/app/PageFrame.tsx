/** What every page has around it: its title, and sign-in in its place where it needs a token and there is none. */
import { useEffect, type ReactNode } from 'react';
import { useLocation } from 'react-router';

import { useSession } from '../api/token';
import type { PageEntry } from './routes';
import { SignInPanel } from './SignInPanel';
import { wantToSee } from './wanted';

export function PageFrame({ page, children }: { page: PageEntry; children: ReactNode }): React.JSX.Element {
  const { token } = useSession();
  const { pathname, search } = useLocation();
  const isSignInNeeded = page.needsToken && token === null;
  useEffect(() => {
    document.title = `${page.label} · Tollgate`;
  }, [page.label]);
  useEffect(() => {
    // A sign-in link that is opened in this tab comes back here.
    if (isSignInNeeded) wantToSee(pathname + search);
  }, [isSignInNeeded, pathname, search]);
  if (isSignInNeeded) return <SignInPanel what={page.label} />;
  return <>{children}</>;
}
