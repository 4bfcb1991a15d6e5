/** What every page has around it: its title, and sign-in in its place where it needs a token and there is none. */
import { useEffect, type ReactNode } from 'react';

import { useSession } from '../api/token';
import type { PageEntry } from './routes';
import { SignInPanel } from './SignInPanel';

export function PageFrame({ page, children }: { page: PageEntry; children: ReactNode }): React.JSX.Element {
  const { token } = useSession();
  useEffect(() => {
    document.title = `${page.label} · Tollgate`;
  }, [page.label]);
  if (page.needsToken && token === null) return <SignInPanel what={page.label} />;
  return <>{children}</>;
}
