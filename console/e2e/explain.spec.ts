/** Explain: every policy that a check meets or does not, and why. Charges nothing. */
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import type { Server } from './server';

const POLICIES = [
  { id: 'each-user', scope: 'USER', limit: 3, windowSeconds: 3_600 },
  { id: 'each-model', scope: 'MODEL', limit: 50, windowSeconds: 60 },
  { id: 'pro-users', scope: 'USER', match: { tier: 'pro' }, limit: 9, windowSeconds: 3_600 },
  { id: 'watched', scope: 'TENANT', limit: 1, windowSeconds: 60, mode: 'shadow' },
  { id: 'payments', scope: 'USER', match: { service: 'payments' }, limit: 2, windowSeconds: 60 },
  { id: 'asleep', scope: 'USER', limit: 1, windowSeconds: 60, enabled: false },
];

const CATALOG = {
  tiers: [{ id: 'pro' }],
  tenants: [{ id: 'acme', tier: 'pro' }],
  users: [{ id: 'alice', tenantId: 'acme' }],
  policies: POLICIES,
};

const ALICE = { userId: 'alice', modelId: 'gpt-4', tenantId: 'acme' };

function verdict(page: Page): Locator {
  return page.getByRole('region', { name: 'Verdict' });
}

/** The policies under `heading`. */
function group(page: Page, heading: string): Locator {
  const named = page.getByRole('heading', { name: new RegExp(`^${heading}`, 'u') });
  return page.locator('section, details').filter({ has: named });
}

async function countOf(server: Server, policyId: string): Promise<number | undefined> {
  const { limits } = await server.peek(ALICE);
  return limits.find((limit) => limit.policyId === policyId)?.count;
}

test.use({ keepsBuiltIn: false });

test('every policy is told: which decides, which apply too, and why the others do not', async ({
  page,
  server,
  openSignedIn,
}) => {
  await server.fill(CATALOG);
  await openSignedIn('explain?user=alice&model=gpt-4&tenant=acme');
  await expect(verdict(page)).toContainText('would be allowed');
  await expect(verdict(page)).toContainText(/Closest limit: (pro-users|each-model)\./u);
  await expect(group(page, 'In shadow mode')).toContainText('watched');
  await expect(group(page, 'Overridden')).toContainText(/each-user.*pro-users, which has more conditions/u);
  await page.getByRole('heading', { name: /^Do not apply/u }).click();
  await expect(group(page, 'Do not apply')).toContainText(
    'needs service payments, which the check does not have',
  );
  await page.getByRole('heading', { name: /^Disabled/u }).click();
  await expect(group(page, 'Disabled')).toContainText('asleep');
  const who = page.getByRole('region', { name: 'Subject of the check' });
  await expect(who).toContainText(/tenant.*acme.*from the check/u);
  await expect(who).toContainText(/tier.*pro.*from the catalog/u);
  await expect(who).toContainText(/user.*alice.*from the check/u);
  await group(page, 'Overridden').getByRole('link', { name: 'each-user' }).click();
  await expect(page.getByRole('dialog').getByLabel('Limit', { exact: true })).toHaveValue('3');
});

test('usage is told as it is now, and nothing is charged', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: POLICIES.slice(0, 1) });
  await openSignedIn('explain?user=alice&model=gpt-4&tenant=acme');
  await expect(verdict(page)).toContainText('0 of 3 requests used, 3 left');
  await server.check(ALICE);
  await expect(verdict(page)).toContainText('1 of 3 requests used, 2 left');
  await server.check(ALICE);
  await server.check(ALICE);
  await expect(verdict(page)).toContainText('would be denied');
  await expect(verdict(page)).toContainText('The limit is used up.');
  await expect(verdict(page)).toContainText(/allowed again in 59 min \d+ s/u);
  expect(await countOf(server, 'each-user')).toBe(3);
});

test('the check is in the address, without the API key, and goes on to the playground with it', async ({
  page,
  server,
  openSignedIn,
}) => {
  await server.fill(CATALOG);
  const { key } = await server.admin<{ key: string }>('api-keys', {
    method: 'POST',
    body: { id: 'ci', tenantId: 'acme' },
  });
  await openSignedIn('explain');
  await expect(page.getByText('Enter a check').or(verdict(page))).toBeVisible();
  await page.getByRole('textbox', { name: 'User' }).fill('bob');
  await page.getByRole('textbox', { name: 'Model' }).fill('mini');
  await page.getByText('Tenant, API key, service, IP, attributes, cost').click();
  await page.getByRole('textbox', { name: 'API key' }).fill(key);
  await page.getByRole('button', { name: 'Explain' }).click();
  await expect(page.getByRole('region', { name: 'Subject of the check' })).toContainText(/API key.*ci/u);
  await expect(page).toHaveURL(server.page('explain?user=bob&model=mini'));
  expect(
    await page.evaluate(() => JSON.stringify([performance.getEntries(), window.location.href])),
  ).not.toContain(key);
  await page.getByRole('link', { name: 'Try it in the playground' }).click();
  await expect(page.getByRole('textbox', { name: 'User' })).toHaveValue('bob');
  await expect(page.getByRole('textbox', { name: 'API key' })).toHaveValue(key);
});

test('a user that the catalog does not know is called unknown, and attributes can be entered', async ({
  page,
  server,
  openSignedIn,
}) => {
  const byRegion = { id: 'europe', scope: 'USER', match: { region: 'eu' }, limit: 2, windowSeconds: 60 };
  await server.fill({ ...CATALOG, policies: [...POLICIES, byRegion] });
  await openSignedIn('explain?user=nobody&model=gpt-4&tenant=nowhere');
  const who = page.getByRole('region', { name: 'Subject of the check' });
  await expect(who).toContainText(/user.*nobody.*unknown user/u);
  await expect(who).toContainText(/tenant.*nowhere.*unknown tenant/u);
  await expect(who).toContainText(/tier.*default.*the catalog has no tier for it/u);
  await page.getByRole('button', { name: '+ Add an attribute' }).click();
  await page.getByRole('textbox', { name: 'Name' }).fill('tier');
  await page.getByRole('textbox', { name: 'Value' }).fill('pro');
  await page.getByRole('button', { name: 'Explain', exact: true }).click();
  await expect(who).toContainText(/tier.*pro.*from the check/u);
  await expect(page).toHaveURL(/attribute=tier%3Dpro/u);
  await page.getByRole('heading', { name: /^Do not apply/u }).click();
  await expect(group(page, 'Do not apply')).toContainText('needs region eu, which the check does not have');
  await page.getByRole('textbox', { name: 'Name' }).fill('region');
  await page.getByRole('textbox', { name: 'Value' }).fill('eu');
  await page.getByRole('button', { name: 'Explain', exact: true }).click();
  await expect(who).toContainText(/region.*eu.*from the check/u);
  await expect(group(page, 'Also apply')).toContainText('europe');
  await page.getByRole('textbox', { name: 'Name' }).fill('user');
  await page.getByRole('button', { name: 'Explain', exact: true }).click();
  await expect(page.getByRole('textbox', { name: 'Name' })).toHaveAttribute('aria-invalid', 'true');
});

test('what the server refuses is told at its field', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: POLICIES });
  await openSignedIn('explain?user=alice&model=gpt-4&ip=nowhere');
  const ip = page.getByRole('textbox', { name: 'IP' });
  await expect(ip).toHaveAttribute('aria-invalid', 'true');
  await expect(ip).toHaveAccessibleDescription(/IP/u);
  await ip.fill('203.0.113.7');
  await page.getByRole('button', { name: 'Explain' }).click();
  await expect(verdict(page)).toContainText('would be allowed');
});

test('a server that is gone leaves what was told, marked as old', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: POLICIES });
  await openSignedIn('explain?user=alice&model=gpt-4&tenant=acme');
  await expect(verdict(page)).toContainText('would be allowed');
  await server.kill();
  await expect(page.getByText('This may be out of date: the server is not responding.')).toBeVisible();
  await expect(verdict(page)).toContainText('would be allowed');
  await server.restart();
  await expect(page.getByText('This may be out of date')).toBeHidden();
});

test('thousands of policies are searched, and few of them drawn', async ({ page, server, openSignedIn }) => {
  const others = Array.from({ length: 3_000 }, (_, index) => ({
    id: `for-user-${String(index)}`,
    scope: 'USER',
    match: { user: `user-${String(index)}` },
    limit: 1,
    windowSeconds: 60,
  }));
  await server.fill({ ...CATALOG, policies: [...POLICIES, ...others] });
  await openSignedIn('explain?user=alice&model=gpt-4&tenant=acme');
  await expect(page.getByRole('heading', { name: /^Do not apply/u })).toContainText('3,001');
  await page.getByRole('searchbox', { name: 'Search the policies' }).fill('for-user-2999');
  await expect(page.getByRole('heading', { name: /^Do not apply/u })).toContainText('1 of 3,001');
  await expect(page.getByRole('link', { name: 'for-user-2999' })).toBeVisible();
  await expect(page).toHaveURL(/find=for-user-2999/u);
  await page.getByRole('searchbox', { name: 'Search the policies' }).fill('');
  await expect(page.getByRole('heading', { name: /^Do not apply/u })).not.toContainText('of');
  await page.getByRole('heading', { name: /^Do not apply/u }).click();
  await expect(page.getByRole('link', { name: 'for-user-0', exact: true })).toBeVisible();
  expect(await group(page, 'Do not apply').getByRole('row').count()).toBeLessThan(100);
});
