/** The frame of every page: navigation, health, theme, sign-in. */
import { useEffect, useRef } from 'react';
import { NavLink, Outlet, ScrollRestoration, useLocation, useNavigation } from 'react-router';

import { signOut, useSession } from '../api/token';
import { Button } from '../ui/Button';
import { HealthBadge } from './HealthBadge';
import { pages } from './routes';
import { cx } from '../ui/cx';
import styles from './Shell.module.css';
import { ThemeSwitch } from './ThemeSwitch';

function Brand(): React.JSX.Element {
  return (
    <NavLink to="/" className={cx(styles.brand)} aria-label="Tollgate, playground">
      <img src="./icon.svg" alt="" width="20" height="20" />
      Tollgate
    </NavLink>
  );
}

function Navigation(): React.JSX.Element {
  const { pathname } = useLocation();
  const nav = useRef<HTMLElement>(null);
  // Where the links are a row that scrolls, the page that is open stays in sight.
  useEffect(() => {
    const current = nav.current?.querySelector('[aria-current="page"]');
    current?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }, [pathname]);
  return (
    <nav ref={nav} aria-label="Pages" className={styles.nav}>
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

function SessionControl(): React.JSX.Element {
  const { token } = useSession();
  if (token === null) {
    return (
      <NavLink to="/sign-in" className={cx(styles.link)}>
        Sign in
      </NavLink>
    );
  }
  return (
    <Button variant="quiet" onPress={signOut}>
      Sign out
    </Button>
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
      <main id="content" tabIndex={-1} className={styles.main} aria-busy={navigation.state === 'loading'}>
        <Outlet />
      </main>
      {/* Another page begins at its top, or where it was left; what changes on a page leaves it where it is. */}
      <ScrollRestoration getKey={({ pathname }) => pathname} storageKey="tollgate.scroll" />
    </div>
  );
}
