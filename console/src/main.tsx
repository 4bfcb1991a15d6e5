/** Where the console starts. */
import './styles/tokens.css';
import './styles/base.css';

import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';

import { signIn, tokenInFragment } from './api/token';
import { App } from './app/App';
import { startTheme } from './app/theme';

/** Takes the token of a sign-in link out of the address before anything else can read or keep it. */
function takeTokenFromAddress(): void {
  const token = tokenInFragment(window.location.hash);
  if (token === null) return;
  window.history.replaceState(null, '', '#/sign-in');
  signIn(token);
}

startTheme();
takeTokenFromAddress();
// A link that is opened in a tab that already shows the console only changes the fragment. Capturing listeners are called
// before that of the router, which would lead away from the link to a page of the old session.
window.addEventListener('hashchange', takeTokenFromAddress, { capture: true });
window.addEventListener('popstate', takeTokenFromAddress, { capture: true });

const root = document.getElementById('root');
if (root !== null) {
  createRoot(root).render(
    <StrictMode>
      <App />
    </StrictMode>,
  );
}
