/** Sign-in and sign-out: the token is in session storage, of one tab, and nowhere else. */
import type { Page } from '@playwright/test';

import { expect, test } from './fixtures';
import { newToken, Server } from './server';

/** Where a sign-in leads if no other page was wanted. */
const LIVE = { name: 'Live', level: 1 };
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

test.use({ keepsBuiltIn: false });

test('the link that a server prints signs in, and its token leaves the address', async ({ page }) => {
  const server = await Server.start({ makesToken: true });
  try {
    await page.goto(server.signInLink);
    await expect(page.getByRole('heading', LIVE)).toBeVisible();
    await expect(page).toHaveURL(server.page('live'));
    const { session, elsewhere } = await tracesOf(page);
    expect(session).toEqual({ [STORED]: server.token });
    expect(elsewhere).not.toContain(server.token);
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Policies' }).click();
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
  await expect(page.getByRole('heading', LIVE)).toBeVisible();
  await expect(page).toHaveURL(server.page('live'));
  expect((await tracesOf(page)).elsewhere).not.toContain(server.token);
});

test('a sign-in link leads to the page that was wanted', async ({ page, server }) => {
  await page.goto(server.page('policies?q=pay'));
  await expect(page.getByRole('heading', { name: 'Sign in to open Policies' })).toBeVisible();
  await page.evaluate((link) => window.location.assign(link), server.signInLink);
  await expect(page.getByRole('searchbox', { name: 'Search policies' })).toHaveValue('pay');
  await expect(page).toHaveURL(server.page('policies?q=pay'));
});

test('signing in from a page leads back to it', async ({ page, server }) => {
  await page.goto(server.page('?user=bob'));
  await page.getByRole('link', { name: 'Sign in' }).click();
  await paste(page, server.token);
  await expect(page.getByRole('textbox', { name: 'User' })).toHaveValue('bob');
});

test('the header says who is signed in, and with which role', async ({ page, server, openSignedIn }) => {
  const who = page.getByRole('group', { name: 'Signed in as' });
  await openSignedIn('policies');
  await expect(who).toHaveText('admin can make changes');
  // Live, where the next sign-in leads, is no longer drawn.
  await expect(page.getByText('There are no policies yet')).toBeVisible();
  await openSignedIn('policies', { token: server.readToken });
  await expect(who).toHaveText(/ read-only$/u);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await expect(who).toHaveCount(0);
});

test('a pasted token opens the page that needs it', async ({ page, server }) => {
  await page.goto(server.page('policies'));
  await expect(page.getByRole('heading', { name: 'Sign in to open Policies' })).toBeVisible();
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
  await expect(field).toHaveAccessibleDescription('Enter the token.');
  await paste(page, newToken());
  await expect(field).toHaveAccessibleDescription('The server does not accept this token.');
  await expect(field).toHaveAttribute('aria-invalid', 'true');
  await expectSignedOut(page);
  await paste(page, server.token);
  await expect(page.getByRole('heading', LIVE)).toBeVisible();
});

test('a link with a wrong token is refused, and its token leaves the address', async ({ page, server }) => {
  const wrong = newToken();
  await page.goto(server.page(`sign-in?token=${wrong}`));
  await expect(page.getByRole('status').filter({ hasText: 'no longer accepts your token' })).toBeVisible();
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
  await expect(page.getByRole('heading', { name: 'Sign in to open Live' })).toBeVisible();
  await expect(page.getByText('It may have been restarted with a different one.')).toBeVisible();
  await expectSignedOut(page);
  await paste(page, server.token);
  await expect(page.getByRole('status', { name: 'Stream of decisions' })).toHaveText('Connected');
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
  await expect(page.getByRole('heading', { name: 'Sign in to open Policies' })).toBeVisible();
  await page.reload();
  await expect(page.getByRole('heading', { name: 'Sign in to open Policies' })).toBeVisible();
});

test('each tab is signed in by itself', async ({ page, context, server, openSignedIn }) => {
  await openSignedIn('policies');
  const other = await context.newPage();
  await other.goto(server.page('policies'));
  await expect(other.getByRole('heading', { name: 'Sign in to open Policies' })).toBeVisible();
  await paste(other, server.readToken);
  await expect(other.getByText('You have read-only access.')).toBeVisible();
  await other.getByRole('button', { name: 'Sign out' }).click();
  await expectSignedOut(other);
  await page.getByRole('navigation').getByRole('link', { name: 'Live' }).click();
  await expect(page.getByRole('status', { name: 'Stream of decisions' })).toHaveText('Connected');
});
