/**
 * The page that a sign-in link opens; its token is already out of the address when this is drawn (main.tsx). Once the
 * server has accepted the token, it leads to the page that was wanted, or to Live.
 */
import { useQuery } from '@tanstack/react-query';
import { useEffect, useRef } from 'react';
import { useNavigate } from 'react-router';

import { checkToken } from '../api/admin';
import { tokenInFragment, useSession } from '../api/token';
import { ErrorState } from '../ui/ErrorState';
import { Skeleton } from '../ui/Skeleton';
import { SignInPanel } from './SignInPanel';
import { takeWanted } from './wanted';

export function SignInPage(): React.JSX.Element {
  const { token } = useSession();
  const check = useQuery({
    queryKey: ['session', 'check', token],
    queryFn: ({ signal }) => checkToken(signal),
    enabled: token !== null,
    retry: false,
  });
  const navigate = useNavigate();
  const isAccepted = token !== null && check.isSuccess;
  const isLeaving = useRef(false);
  useEffect(() => {
    // A link that was opened while somebody is signed in: its token is taken next (main.tsx).
    const isLinkOpen = tokenInFragment(window.location.hash) !== null;
    if (!isAccepted || isLinkOpen || isLeaving.current) return;
    isLeaving.current = true;
    void navigate(takeWanted(), { replace: true });
  }, [isAccepted, navigate]);
  if (token === null) return <SignInPanel />;
  if (check.isError) return <ErrorState error={check.error} onRetry={() => void check.refetch()} />;
  return <Skeleton lines={3} label="Signing in" />;
}
