/** Live leases: what they hold, narrowed, kept up to date, and released by hand. */
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import type { Server } from './server';

test.use({ keepsBuiltIn: false });

const POLICIES = [
  { id: 'tokens', scope: 'USER', unit: 'tokens', limit: 10_000, windowSeconds: 60 },
  { id: 'parallel', scope: 'USER', unit: 'concurrency', limit: 2 },
];
const TTL_MS = 600_000;

async function reserve(server: Server, userId: string, tenantId: string, tokens: number): Promise<string> {
  return server.reserve({ userId, modelId: 'gpt-4', tenantId, cost: { tokens }, ttlMs: TTL_MS });
}

/** The lines of a table, without its heading. */
function lines(page: Page, name: string): Locator {
  return page.getByRole('table', { name, exact: true }).locator('tbody').getByRole('row');
}

function leases(page: Page): Locator {
  return lines(page, 'live leases');
}

test.beforeEach(async ({ server }) =>
  server.fill({ policies: POLICIES, tenants: [{ id: 'acme' }, { id: 'globex' }] }),
);

test('leases are listed, the oldest first, with what was used, and the list keeps up', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('leases');
  await expect(page.getByText('There are no live leases')).toBeVisible();
  const first = await reserve(server, 'alice', 'acme', 1_200);
  await reserve(server, 'bob', 'globex', 40);
  await server.observe(first, { tokens: 300 });
  await expect(leases(page)).toHaveText([
    /alice, gpt-4.*acme.*parallel 1 slot.*tokens 300 of 1,200 tokens used.*Release/u,
    /bob, gpt-4.*globex.*parallel 1 slot.*tokens 40 tokens, no usage reported.*Release/u,
  ]);
  await expect(lines(page, 'leases by policy and tenant').filter({ hasText: 'tokens' })).toHaveText([
    /tokens.*acme.*1.*300 of 1,200 tokens used/u,
    /tokens.*globex.*1.*40 tokens, no usage reported/u,
  ]);
  await server.settle(first, { tokens: 310 }, 2);
  await expect(leases(page)).toHaveText([/bob/u]);
});

test('the list is narrowed by policy and tenant, as the address says', async ({
  page,
  server,
  openSignedIn,
}) => {
  for (const [user, tenant] of [
    ['alice', 'acme'],
    ['bob', 'globex'],
    ['carol', 'acme'],
  ] as const) {
    await reserve(server, user, tenant, 1);
  }
  await openSignedIn('leases');
  await expect(leases(page)).toHaveText([/alice/u, /bob/u, /carol/u]);
  await page.getByLabel('Tenant', { exact: true }).fill('acme');
  await expect(leases(page)).toHaveText([/alice/u, /carol/u]);
  await expect(page).toHaveURL(server.page('leases?tenant=acme'));
  await page.getByLabel('Tenant', { exact: true }).fill('');
  await expect(leases(page)).toHaveCount(3);
  await page.getByRole('link', { name: 'Only leases of policy tokens, tenant globex' }).click();
  await expect(leases(page)).toHaveText([/bob/u]);
  await expect(lines(page, 'leases by policy and tenant')).toHaveCount(1);
  await page.goto(server.page('leases?policy=none'));
  await expect(page.getByText('No matching leases')).toBeVisible();
});

test('a lease is released by hand, after a question', async ({ page, server, openSignedIn }) => {
  await reserve(server, 'alice', 'acme', 40);
  await reserve(server, 'bob', 'acme', 7);
  await openSignedIn('leases');
  await page.getByRole('button', { name: 'Release the lease of alice, gpt-4' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('The lease of alice, gpt-4 gives back 1 slot and 40 tokens at once.');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await expect(leases(page)).toHaveCount(2);
  await page.getByRole('button', { name: 'Release the lease of alice, gpt-4' }).click();
  await dialog.getByRole('button', { name: 'Release' }).click();
  await expect(page.getByText('Released the lease of alice, gpt-4')).toBeVisible();
  await expect(dialog).toHaveCount(0);
  await expect(leases(page)).toHaveText([/bob/u]);
  const { limits } = await server.peek({ userId: 'alice', modelId: 'gpt-4', tenantId: 'acme' });
  expect(limits.map(({ count }) => count)).toEqual([0, 0]);
});

test('a lease that was settled meanwhile is not released', async ({ page, server, openSignedIn }) => {
  const id = await reserve(server, 'alice', 'acme', 40);
  await openSignedIn('leases');
  await page.getByRole('button', { name: /^Release the lease/u }).click();
  await server.settle(id, { tokens: 12 });
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Release' }).click();
  await expect(dialog.getByRole('alert')).toContainText('The lease was settled');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await expect(page.getByText('There are no live leases')).toBeVisible();
});

test('a token that may only read sees the leases and releases none', async ({
  page,
  server,
  openSignedIn,
}) => {
  await reserve(server, 'alice', 'acme', 40);
  await openSignedIn('leases', { token: server.readToken });
  await expect(leases(page)).toHaveText([/alice/u]);
  await expect(page.getByRole('button', { name: /^Release/u })).toHaveCount(0);
});

test('without its server the page keeps the list, and says that it may be old', async ({
  page,
  server,
  openSignedIn,
}) => {
  await reserve(server, 'alice', 'acme', 40);
  await openSignedIn('leases');
  await expect(leases(page)).toHaveText([/alice/u]);
  await server.kill();
  await page.getByRole('button', { name: 'Refresh' }).click();
  await expect(page.getByText('This list may be out of date: the server is not responding.')).toBeVisible();
  await expect(leases(page)).toHaveText([/alice/u]);
  await server.restart();
  await page.getByRole('button', { name: 'Refresh' }).click();
  await expect(page.getByText('There are no live leases')).toBeVisible();
});

test('usage above a limit is shown as such in Explain', async ({ page, server, openSignedIn }) => {
  const id = await reserve(server, 'alice', 'acme', 9_000);
  await server.settle(id, { tokens: 10_090 });
  await openSignedIn('explain?user=alice&model=gpt-4&tenant=acme');
  await expect(page.getByText('10,090 of 10,000 tokens used, 90 above the limit')).toBeVisible();
});
