/** Sign-in and sign-out: the token is in session storage, of one tab, and nowhere else. */
import type { Page } from '@playwright/test';

import { expect, test } from './fixtures';
import { newToken, Server } from './server';

const SIGNED_IN = { name: 'You are signed in' };
const STORED = 'tollgate.admin-token';
/** How far each page is scrolled, which the browser keeps for a reload. */
const SCROLL = 'tollgate.scroll';

interface Traces {
  session: Record<string, string>;
  /** Everything else where a page may keep something, or may be seen. */
  elsewhere: string;
}

async function tracesOf(page: Page): Promise<Traces> {
  return page.evaluate(async (scroll) => {
    const { navigation } = window as unknown as { navigation: { entries: () => { url: string }[] } };
    const elsewhere = {
      local: JSON.stringify(window.localStorage),
      cookie: document.cookie,
      referrer: document.referrer,
      history: navigation.entries().map(({ url }) => url),
      databases: await window.indexedDB.databases(),
      caches: await window.caches.keys(),
      requests: performance.getEntriesByType('resource').map(({ name }) => name),
      page: document.documentElement.outerHTML,
    };
    const kept = Object.entries(window.sessionStorage).filter(([name]) => name !== scroll);
    const session = Object.fromEntries(kept) as Record<string, string>;
    return { session, elsewhere: JSON.stringify(elsewhere) };
  }, SCROLL);
}

async function expectSignedOut(page: Page): Promise<void> {
  await expect(page.getByRole('link', { name: 'Sign in' })).toBeVisible();
  expect((await tracesOf(page)).session).toEqual({});
}

async function paste(page: Page, token: string): Promise<void> {
  await page.getByLabel('Admin token', { exact: true }).fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

test('the link that a server prints signs in, and its token leaves the address', async ({ page }) => {
  const server = await Server.start({ makesToken: true });
  try {
    await page.goto(server.signInLink);
    await expect(page.getByRole('heading', SIGNED_IN)).toBeVisible();
    await expect(page).toHaveURL(server.page('sign-in'));
    const { session, elsewhere } = await tracesOf(page);
    expect(session).toEqual({ [STORED]: server.token });
    expect(elsewhere).not.toContain(server.token);
    await page.getByRole('main').getByRole('link', { name: 'Policies' }).click();
    await expect(page.getByRole('button', { name: 'New policy' })).toBeEnabled();
    expect((await tracesOf(page)).elsewhere).not.toContain(server.token);
  } finally {
    await server.end();
  }
});

test('a link that is opened where the console is open already signs in too', async ({ page, server }) => {
  await page.goto(server.page());
  await expect(page.getByRole('button', { name: 'Check', exact: true })).toBeVisible();
  await page.evaluate((link) => window.location.assign(link), server.signInLink);
  await expect(page.getByRole('heading', SIGNED_IN)).toBeVisible();
  await expect(page).toHaveURL(server.page('sign-in'));
  expect((await tracesOf(page)).elsewhere).not.toContain(server.token);
});

test('a pasted token opens the page that needs it', async ({ page, server }) => {
  await page.goto(server.page('policies'));
  await expect(page.getByRole('heading', { name: 'Policies needs the admin token' })).toBeVisible();
  await paste(page, ` ${server.token}\n`);
  await expect(page.getByRole('heading', { name: 'Policies', exact: true })).toBeVisible();
  await expect(page).toHaveURL(server.page('policies'));
  const { session, elsewhere } = await tracesOf(page);
  expect(session).toEqual({ [STORED]: server.token });
  expect(elsewhere).not.toContain(server.token);
});

test('a wrong token is refused at its field and not kept', async ({ page, server }) => {
  await page.goto(server.page('sign-in'));
  const field = page.getByLabel('Admin token', { exact: true });
  await page.getByRole('button', { name: 'Sign in' }).click();
  await expect(field).toHaveAccessibleDescription('Paste the token.');
  await paste(page, newToken());
  await expect(field).toHaveAccessibleDescription('The server does not know this token.');
  await expect(field).toHaveAttribute('aria-invalid', 'true');
  await expectSignedOut(page);
  await paste(page, server.token);
  await expect(page.getByRole('heading', SIGNED_IN)).toBeVisible();
});

test('a link with a wrong token is refused, and its token leaves the address', async ({ page, server }) => {
  const wrong = newToken();
  await page.goto(server.page(`sign-in?token=${wrong}`));
  await expect(page.getByRole('status').filter({ hasText: 'no longer takes your token' })).toBeVisible();
  await expect(page).toHaveURL(server.page('sign-in'));
  await expectSignedOut(page);
  expect((await tracesOf(page)).elsewhere).not.toContain(wrong);
});

test('a token that changed while the server restarted asks to sign in anew', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('policies');
  await expect(page.getByText('There are no policies yet')).toBeVisible();
  await server.kill();
  await server.restart({ write: newToken() });
  await page.getByRole('navigation').getByRole('link', { name: 'Live' }).click();
  await expect(page.getByRole('heading', { name: 'Live needs the admin token' })).toBeVisible();
  await expect(page.getByText('It may have been restarted with another one.')).toBeVisible();
  await expectSignedOut(page);
  await paste(page, server.token);
  await expect(page.getByRole('status', { name: 'Stream of decisions' })).toHaveText('Listening');
});

test('who signs out has to sign in again, also after going back and reloading', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('policies');
  await expect(page.getByText('There are no policies yet')).toBeVisible();
  await page.reload();
  await expect(page.getByText('There are no policies yet')).toBeVisible();
  await page.getByRole('link', { name: 'Playground', exact: true }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expectSignedOut(page);
  expect((await tracesOf(page)).elsewhere).not.toContain(server.token);
  await page.goBack();
  await expect(page.getByRole('heading', { name: 'Policies needs the admin token' })).toBeVisible();
  await page.reload();
  await expect(page.getByRole('heading', { name: 'Policies needs the admin token' })).toBeVisible();
});

test('each tab is signed in by itself', async ({ page, context, server, openSignedIn }) => {
  await openSignedIn('policies');
  const other = await context.newPage();
  await other.goto(server.page('policies'));
  await expect(other.getByRole('heading', { name: 'Policies needs the admin token' })).toBeVisible();
  await paste(other, server.readToken);
  await expect(other.getByText('Your token may look and not change.')).toBeVisible();
  await other.getByRole('button', { name: 'Sign out' }).click();
  await expectSignedOut(other);
  await page.getByRole('navigation').getByRole('link', { name: 'Live' }).click();
  await expect(page.getByRole('status', { name: 'Stream of decisions' })).toHaveText('Listening');
});
