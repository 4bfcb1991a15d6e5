/** The page that a sign-in link opens; its token is already out of the address when this is drawn (main.tsx). */
import { useQuery } from '@tanstack/react-query';
import { Link } from 'react-router';

import { checkToken } from '../api/admin';
import { signOut, useSession } from '../api/token';
import { Button } from '../ui/Button';
import { ErrorState } from '../ui/ErrorState';
import { Panel } from '../ui/Panel';
import { Skeleton } from '../ui/Skeleton';
import { pages } from './routes';
import { SignInPanel } from './SignInPanel';
import styles from './SignIn.module.css';

export function SignInPage(): React.JSX.Element {
  const { token } = useSession();
  const check = useQuery({
    queryKey: ['session', token],
    queryFn: ({ signal }) => checkToken(signal),
    enabled: token !== null,
    retry: false,
  });
  if (token === null) return <SignInPanel />;
  if (check.isPending) return <Skeleton lines={3} label="Asking the server whether it takes the token" />;
  if (check.isError) return <ErrorState error={check.error} onRetry={() => void check.refetch()} />;
  return (
    <Panel className={styles.panel} level={1} title="You are signed in">
      <p>The token is kept in this tab alone, until you close the tab or sign out.</p>
      <ul className={styles.pages}>
        {pages.map((page) => (
          <li key={page.path}>
            <Link to={`/${page.path.replace(/\/\*$/, '')}`}>{page.label}</Link>
          </li>
        ))}
      </ul>
      <Button onPress={signOut}>Sign out</Button>
    </Panel>
  );
}
