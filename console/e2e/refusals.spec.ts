/** What the server refuses, by its status: the page says why, loses nothing, and goes on when that is mended. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import { newToken, type Server } from './server';

const PER_USER = { id: 'per-user', scope: 'USER', limit: 20, windowSeconds: 60 };

/** Wrong tokens that an address may give in a minute. */
const MAX_GUESSES = 10;
/** The most that may listen to one server's decisions. */
const MAX_LISTENERS = 16;

function field(page: Page, label: string): Locator {
  return page.getByRole('dialog').getByLabel(label, { exact: true });
}

async function press(page: Page, name: string): Promise<void> {
  await page.getByRole('button', { name, exact: true }).click();
}

function alert(page: Page): Locator {
  return page.getByRole('alert');
}

async function limitOf(server: Server): Promise<number> {
  return (await server.admin<typeof PER_USER>('policies/per-user')).limit;
}

/** Keeps everybody else from writing into the catalog until what it returns is called. */
async function lockCatalog(server: Server): Promise<() => Promise<void>> {
  const program = [
    'import sqlite3, sys',
    'sqlite3.connect(sys.argv[1], isolation_level=None).execute("BEGIN IMMEDIATE")',
    'print("locked", flush=True)',
    'sys.stdin.read()',
  ].join('\n');
  // The connection ends with the process, and the lock with the connection.
  const child = spawn('python3', [
    '-c',
    program.replace('sqlite3.connect', 'held = sqlite3.connect'),
    server.catalog,
  ]);
  await once(child.stdout, 'data');
  return async () => {
    child.stdin.end();
    await once(child, 'exit');
  };
}

/** Opens `count` streams of decisions; what it returns ends them. */
async function listen(server: Server, count: number): Promise<() => void> {
  const ended = new AbortController();
  const init = { headers: { authorization: `Bearer ${server.token}` }, signal: ended.signal };
  const opened = Array.from({ length: count }, () => fetch(`${server.url}/admin/events`, init));
  for (const { status } of await Promise.all(opened)) expect(status).toBe(200);
  return () => ended.abort();
}

test.describe('of a policy that is open', () => {
  test.beforeEach(async ({ server }) => server.fill({ policies: [PER_USER] }));

  test('401: the token is not taken any more; one signs in again where one was', async ({
    page,
    server,
    openSignedIn,
  }) => {
    await openSignedIn('policies?open=per-user');
    // What is typed is validated a moment later. With the new token that call would sign out before the button does.
    const validated = page.waitForResponse((response) => {
      const request = response.request();
      return request.url().endsWith('/admin/policies/validate') && (request.postData() ?? '').includes('30');
    });
    await field(page, 'Limit').fill('30');
    await validated;
    await server.kill();
    await server.restart({ write: newToken() });
    await press(page, 'Save');
    await expect(page.getByRole('heading', { name: 'Sign in to open Policies' })).toBeVisible();
    await expect(
      page.getByText('You were signed out because the server no longer accepts your token.'),
    ).toBeVisible();
    expect(await limitOf(server)).toBe(20);
    await page.getByLabel('Admin token', { exact: true }).fill(server.token);
    await press(page, 'Sign in');
    await expect(field(page, 'Limit')).toHaveValue('20');
  });

  test('403: the token may only look now', async ({ page, server, openSignedIn }) => {
    await openSignedIn('policies?open=per-user');
    await field(page, 'Limit').fill('30');
    await server.kill();
    await server.restart({ write: newToken(), read: server.token });
    await press(page, 'Save');
    await expect(alert(page)).toContainText('You have read-only access');
    await expect(field(page, 'Limit')).toHaveValue('30');
    expect(await limitOf(server)).toBe(20);
  });

  test('404: what is to be deleted is gone', async ({ page, server, openSignedIn }) => {
    await openSignedIn('policies?open=per-user');
    await press(page, 'Delete');
    await server.admin('policies/per-user', { method: 'DELETE' });
    await page
      .getByRole('dialog', { name: 'Delete policy per-user?' })
      .getByRole('button', { name: 'Delete' })
      .click();
    await expect(alert(page)).toContainText('Someone else has already deleted it');
  });

  test('412: what is to be deleted was changed', async ({ page, server, openSignedIn }) => {
    await openSignedIn('policies?open=per-user');
    await press(page, 'Delete');
    await server.admin('policies/per-user', { method: 'PUT', body: { ...PER_USER, limit: 25 } });
    await page
      .getByRole('dialog', { name: 'Delete policy per-user?' })
      .getByRole('button', { name: 'Delete' })
      .click();
    await expect(alert(page)).toContainText('Someone changed it since you opened it');
    expect(await limitOf(server)).toBe(25);
  });

  test('503: the catalog does not answer; saving again does', async ({ page, server, openSignedIn }) => {
    await openSignedIn('policies?open=per-user');
    await field(page, 'Limit').fill('30');
    const release = await lockCatalog(server);
    await press(page, 'Save');
    // The server waits 5 s for the lock.
    await expect(alert(page)).toContainText('The catalog did not answer', { timeout: 15_000 });
    await expect(alert(page)).toContainText('the database is locked; try again');
    await release();
    await press(page, 'Save');
    await expect(page.getByRole('log', { name: 'Notifications' })).toContainText('Saved');
    expect(await limitOf(server)).toBe(30);
  });

  test('no answer at all: what was typed stays, and is saved when the server is back', async ({
    page,
    server,
    openSignedIn,
  }) => {
    await openSignedIn('policies?open=per-user');
    await field(page, 'Limit').fill('30');
    await server.kill();
    await press(page, 'Save');
    await expect(alert(page)).toContainText('The server is not responding');
    await expect(field(page, 'Limit')).toHaveValue('30');
    await server.restart();
    await press(page, 'Save');
    await expect(page.getByRole('log', { name: 'Notifications' })).toContainText('Saved');
    expect(await limitOf(server)).toBe(30);
  });
});

test('404: an address that names no page, and one that names no policy', async ({
  page,
  server,
  openSignedIn,
}) => {
  await page.goto(server.page('nowhere'));
  await expect(page.getByText('Page not found')).toBeVisible();
  await page.getByRole('link', { name: 'Go to the playground' }).click();
  await expect(page.getByRole('button', { name: 'Check', exact: true })).toBeVisible();
  await openSignedIn('policies?open=nothing');
  await expect(page.getByRole('dialog')).toContainText('There is no policy with this ID');
  await press(page, 'Close');
  await expect(page).toHaveURL(server.page('policies'));
});

test('409: the id of a new policy is taken', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: [PER_USER] });
  await openSignedIn('policies?new=1');
  await field(page, 'ID').fill('per-user');
  await field(page, 'Limit').fill('1');
  await press(page, 'Create policy');
  await expect(alert(page)).toContainText('Not saved: a policy with this ID already exists');
  expect(await limitOf(server)).toBe(20);
  await field(page, 'ID').fill('another');
  await press(page, 'Create policy');
  await expect(page.getByRole('log', { name: 'Notifications' })).toContainText('Saved policy another');
});

test('422: each field says what is wrong with it, and the first has the focus', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('policies?new=1');
  await press(page, 'Create policy');
  await expect(alert(page)).toHaveText('Not saved: 2 fields need a different value.');
  await expect(field(page, 'ID')).toHaveAttribute('aria-invalid', 'true');
  await expect(field(page, 'ID')).toHaveAccessibleDescription('Enter an ID.');
  await expect(field(page, 'Limit')).toHaveAttribute('aria-invalid', 'true');
  await expect(field(page, 'Limit')).toHaveAccessibleDescription('Enter a limit.');
  await expect(field(page, 'ID')).toBeFocused();
  expect(await server.admin('policies')).toMatchObject({ items: [{ id: 'default' }] });
});

test('429: who guesses tokens is told to wait, and a right one is let in', async ({ page, server }) => {
  await page.goto(server.page('sign-in'));
  for (let guess = 0; guess < MAX_GUESSES; guess += 1) {
    const headers = { authorization: `Bearer ${newToken()}` };
    expect((await fetch(`${server.url}/admin/policies`, { headers })).status).toBe(401);
  }
  const token = page.getByLabel('Admin token', { exact: true });
  const wrong = newToken();
  await token.fill(wrong);
  await press(page, 'Sign in');
  await expect(token).toHaveAccessibleDescription(/^Too many wrong tokens from this address/u);
  await expect(token).toHaveValue(wrong);
  // The playground needs no token.
  await page.getByRole('link', { name: 'Playground', exact: true }).click();
  await press(page, 'Check');
  await expect(page.getByText('ALLOWED', { exact: true })).toBeVisible();
  const headers = { authorization: `Bearer ${server.token}` };
  expect((await fetch(`${server.url}/admin/policies`, { headers })).status).toBe(200);
});

test('503: as many listen as may; when one ends, the page is let in', async ({
  page,
  server,
  openSignedIn,
}) => {
  const end = await listen(server, MAX_LISTENERS);
  await page.clock.install();
  await openSignedIn('live');
  await expect(page.getByText('Too many viewers')).toBeVisible();
  const stream = page.getByRole('status', { name: 'Stream of decisions' });
  await expect(stream).toHaveText('Disconnected');
  end();
  // It tries again by itself, as after any refusal that may pass: after half a minute at most, which the page's clock skips. The
  // server may notice a moment later that the others have gone.
  await expect(async () => {
    await page.clock.fastForward(30_000);
    await expect(stream).toHaveText('Connected', { timeout: 1_000 });
  }).toPass();
});
