/** The frame of every page: navigation, warnings, health, theme, who is signed in. */
import { NavLink, Outlet, ScrollRestoration, useLocation, useNavigation } from 'react-router';

import { useSessionInfo, type SessionInfo } from '../api/session';
import { signOut, useSession } from '../api/token';
import { Button } from '../ui/Button';
import { HealthBadge } from './HealthBadge';
import { HealthBanner } from './HealthBanner';
import { pages } from './routes';
import { cx } from '../ui/cx';
import styles from './Shell.module.css';
import { ThemeSwitch } from './ThemeSwitch';
import { wantToSee } from './wanted';

function Brand(): React.JSX.Element {
  return (
    <NavLink to="/" className={cx(styles.brand)} aria-label="Tollgate, playground">
      <img src="./icon.svg" alt="" width="20" height="20" />
      Tollgate
    </NavLink>
  );
}

function Navigation(): React.JSX.Element {
  return (
    <nav aria-label="Pages" className={styles.nav}>
      <ul>
        {pages.map((page) => (
          <li key={page.path}>
            <NavLink
              to={`/${page.path.replace(/\/\*$/, '')}`}
              end={page.path === ''}
              className={cx(styles.link)}
            >
              {page.label}
            </NavLink>
          </li>
        ))}
      </ul>
    </nav>
  );
}

const ROLE_WORDS: Readonly<Record<SessionInfo['role'], string>> = {
  read: 'read-only',
  write: 'can make changes',
};

/** The name and the role of the token. */
function WhoIsSignedIn(): React.JSX.Element | null {
  const info = useSessionInfo();
  if (info === null) return null;
  return (
    <p className={styles.who} role="group" aria-label="Signed in as">
      <strong>{info.actor}</strong> <span>{ROLE_WORDS[info.role]}</span>
    </p>
  );
}

function SessionControl(): React.JSX.Element {
  const { token } = useSession();
  const { pathname, search } = useLocation();
  if (token === null) {
    return (
      <NavLink to="/sign-in" className={cx(styles.link)} onClick={() => wantToSee(pathname + search)}>
        Sign in
      </NavLink>
    );
  }
  return (
    <>
      <WhoIsSignedIn />
      <Button variant="quiet" onPress={signOut}>
        Sign out
      </Button>
    </>
  );
}

/** The skip link moves the focus by itself: its address would be taken for a page's by the router. */
function skipToContent(): void {
  document.getElementById('content')?.focus();
}

export function Shell(): React.JSX.Element {
  const navigation = useNavigation();
  return (
    <div className={styles.shell}>
      <button type="button" className={styles.skip} onClick={skipToContent}>
        Skip to content
      </button>
      <header className={styles.header}>
        <Brand />
        <Navigation />
        <div className={styles.tools}>
          <HealthBadge />
          <ThemeSwitch />
          <SessionControl />
        </div>
      </header>
      <div className={styles.content}>
        <HealthBanner />
        <main id="content" tabIndex={-1} className={styles.main} aria-busy={navigation.state === 'loading'}>
          <Outlet />
        </main>
      </div>
      {/* Another page begins at its top, or where it was left; what changes on a page leaves it where it is. */}
      <ScrollRestoration getKey={({ pathname }) => pathname} storageKey="tollgate.scroll" />
    </div>
  );
}
