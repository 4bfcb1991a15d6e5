/** The directory: the six kinds of record, made, changed and deleted; and API keys, whose secret is shown once. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import type { Server } from './server';

const CATALOG = {
  tiers: [{ id: 'pro', priority: 'premium' }, { id: 'free' }],
  modelTiers: [{ id: 'small' }],
  tenants: [{ id: 'umbrella', tier: 'pro' }],
  users: [{ id: 'wesker', tenantId: 'umbrella' }],
  models: [{ id: 'mini', modelTier: 'small' }],
};

function dialog(page: Page): Locator {
  return page.getByRole('dialog');
}

function field(page: Page, label: string): Locator {
  return dialog(page).getByLabel(label, { exact: true });
}

function row(page: Page, id: string): Locator {
  return page.getByRole('row').filter({ has: page.getByText(id, { exact: true }) });
}

async function press(page: Page, name: string): Promise<void> {
  await page.getByRole('button', { name, exact: true }).click();
}

/** Presses `name` and, in the question that follows, once more. */
async function pressAndConfirm(page: Page, name: string, question: string): Promise<void> {
  await press(page, name);
  await page.getByRole('dialog', { name: question }).getByRole('button', { name, exact: true }).click();
}

async function expectSaid(page: Page, text: string): Promise<void> {
  await expect(page.getByRole('log', { name: 'Notifications' })).toContainText(text);
}

/** Writes down when a key was used last, which the server does only every half minute. */
async function markUsed(server: Server, name: string, usedMs: number): Promise<void> {
  const program = [
    'import sqlite3, sys',
    'catalog = sqlite3.connect(sys.argv[1])',
    'catalog.execute("UPDATE api_keys SET last_used_ms = ? WHERE name = ?", (int(sys.argv[3]), sys.argv[2]))',
    'catalog.commit()',
  ].join('\n');
  await promisify(execFile)('python3', ['-c', program, server.catalog, name, String(usedMs)]);
}

interface Case {
  kind: string;
  tab: string;
  one: string;
  id: string;
  fill: (page: Page) => Promise<void>;
  says: string;
  kept: object;
}

const CASES: readonly Case[] = [
  {
    kind: 'tenants',
    tab: 'Tenants',
    one: 'tenant',
    id: 'acme',
    fill: (page) => field(page, 'Tier').fill('pro'),
    says: 'Checks for tenant acme have tier pro',
    kept: { tier: 'pro' },
  },
  {
    kind: 'users',
    tab: 'Users',
    one: 'user',
    id: 'alice',
    fill: (page) => field(page, 'Tenant').fill('umbrella'),
    says: 'Checks of user alice count for tenant umbrella and have tier pro',
    kept: { tenantId: 'umbrella' },
  },
  {
    kind: 'tiers',
    tab: 'Tiers',
    one: 'tier',
    id: 'night',
    fill: async (page) => {
      await field(page, 'Priority class').selectOption('batch: denied first');
    },
    says: 'When there is not enough for everyone, tier night is denied first',
    kept: { priority: 'batch' },
  },
  {
    kind: 'models',
    tab: 'Models',
    one: 'model',
    id: 'nano',
    fill: (page) => field(page, 'Model tier').fill('small'),
    says: 'Policies for model tier small apply to checks for model nano',
    kept: { modelTier: 'small' },
  },
  {
    kind: 'model-tiers',
    tab: 'Model tiers',
    one: 'model tier',
    id: 'large',
    fill: () => Promise.resolve(),
    says: 'Policies for model tier large apply to each of its models',
    kept: {},
  },
];

for (const { kind, tab, one, id, fill, says, kept } of CASES) {
  test(`a ${one} is made, changed and deleted`, async ({ page, server, openSignedIn }) => {
    const path = `${kind}/${id}`;
    await server.fill(CATALOG);
    await openSignedIn('directory');
    await page
      .getByRole('navigation', { name: 'Kinds of record' })
      .getByRole('link', { name: tab, exact: true })
      .click();
    await expect(page).toHaveURL(server.page(`directory/${kind}`));
    await press(page, `New ${one}`);
    await field(page, 'ID').fill(id);
    await fill(page);
    await expect(dialog(page).getByRole('region', { name: `What this ${one} does` })).toContainText(says);
    await press(page, `Create ${one}`);
    await expectSaid(page, `Saved ${one} ${id}`);
    expect(await server.admin(path)).toMatchObject({ id, name: id, ...kept });

    await page.getByRole('link', { name: id, exact: true }).click();
    await expect(field(page, 'ID')).toBeDisabled();
    await field(page, 'Name').fill('What people call it');
    await press(page, 'Save');
    await expect(row(page, id)).toContainText('What people call it');
    expect(await server.admin(path)).toMatchObject({ id, name: 'What people call it', ...kept });

    await page.getByRole('link', { name: 'What people call it', exact: true }).click();
    await pressAndConfirm(page, 'Delete', `Delete ${one} ${id}?`);
    await expectSaid(page, `Deleted ${one} ${id}`);
    await expect(row(page, id)).toHaveCount(0);
    await expect(server.admin(path)).rejects.toThrow('404');
  });
}

test.describe('an API key', () => {
  const PER_TENANT = { id: 'per-tenant', scope: 'TENANT', limit: 50, windowSeconds: 3_600 };

  /** Makes the key `ci` of tenant umbrella, and gives its secret, read off the page. */
  async function makeKey(page: Page): Promise<string> {
    await press(page, 'New API key');
    await field(page, 'ID').fill('ci');
    await field(page, 'Tenant').fill('umbrella');
    await press(page, '90 days');
    await press(page, 'Create API key');
    const secret = page.getByRole('dialog', { name: 'Secret of API key ci' });
    await expect(secret).toContainText('it is shown only once');
    return (await secret.getByRole('code').textContent()) ?? '';
  }

  async function reasonFor(server: Server, apiKey: string): Promise<string | null> {
    return (await server.peek({ userId: 'wesker', modelId: 'mini', apiKey })).reason;
  }

  test('shows its secret once, to be copied, and counts for its tenant', async ({
    page,
    server,
    openSignedIn,
  }) => {
    await server.fill({ ...CATALOG, policies: [PER_TENANT] });
    await openSignedIn('directory/api-keys');
    const secret = await makeKey(page);
    expect(secret).toMatch(/^\S{20,}$/u);
    await press(page, 'Copy');
    await expect(page.getByRole('button', { name: 'Copied' })).toBeVisible();
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(secret);
    await press(page, 'I have saved it');
    await expect(dialog(page)).toHaveCount(0);
    await expect(row(page, 'ci')).toContainText('active');
    await page.reload();
    await page.getByRole('link', { name: 'ci', exact: true }).click();
    await expect(dialog(page).getByRole('region', { name: 'What this API key does' })).toContainText(
      'Checks with this key count for tenant umbrella',
    );
    expect(await page.content()).not.toContain(secret);
    expect(JSON.stringify(await server.admin('api-keys'))).not.toContain(secret);
    const decision = await server.check({ userId: 'wesker', modelId: 'mini', apiKey: secret });
    expect(decision).toMatchObject({ allowed: true, policyId: 'per-tenant', count: 1 });
  });

  test('is revoked after a question, and restored', async ({ page, server, openSignedIn }) => {
    await server.fill(CATALOG);
    await openSignedIn('directory/api-keys');
    const secret = await makeKey(page);
    await press(page, 'I have saved it');
    expect(await reasonFor(server, secret)).toBeNull();
    await page.getByRole('link', { name: 'ci', exact: true }).click();
    await pressAndConfirm(page, 'Revoke', 'Revoke API key ci?');
    await expectSaid(page, 'Revoked API key ci');
    await expect(row(page, 'ci')).toContainText('revoked');
    await expect.poll(() => reasonFor(server, secret)).toBe('api_key_revoked');
    await page.getByRole('link', { name: 'ci', exact: true }).click();
    await pressAndConfirm(page, 'Restore', 'Restore API key ci?');
    await expect(row(page, 'ci')).toContainText('active');
    await expect.poll(() => reasonFor(server, secret)).toBeNull();
  });
});

test('API keys are listed by name, the last used first', async ({ page, server, openSignedIn }) => {
  await server.fill(CATALOG);
  const make = (name: string): Promise<unknown> =>
    server.admin('api-keys', { method: 'POST', body: { name, tenantId: 'umbrella' } });
  for (const name of ['Zeta', 'Old', 'Alpha', 'Production']) await make(name);
  await markUsed(server, 'Old', 1_000);
  await markUsed(server, 'Production', 2_000);
  await openSignedIn('directory/api-keys');
  const names = page.getByRole('table', { name: 'API keys' }).locator('tbody td:first-child a');
  await expect(names).toHaveText(['Production', 'Old', 'Alpha', 'Zeta']);
  await page.getByRole('link', { name: 'Alpha' }).click();
  await expect(field(page, 'Name')).toHaveValue('Alpha');
});

test('other records are listed by name too', async ({ page, server, openSignedIn }) => {
  await server.fill({
    ...CATALOG,
    users: [
      { id: 'u-1', name: 'Walt', tenantId: 'umbrella' },
      { id: 'u-2', name: 'Ada', tenantId: 'umbrella' },
    ],
  });
  await openSignedIn('directory/users');
  const names = page.getByRole('table', { name: 'users' }).locator('tbody td:first-child');
  await expect(names).toHaveText([/^Ada.*u-2$/u, /^Walt.*u-1$/u]);
});

test('what refers to nothing is refused at its field', async ({ page, server, openSignedIn }) => {
  await server.fill(CATALOG);
  await openSignedIn('directory/users?new=1');
  await field(page, 'ID').fill('bob');
  await field(page, 'Tenant').fill('nobody');
  await press(page, 'Create user');
  await expect(field(page, 'Tenant')).toHaveAccessibleDescription('Unknown tenant "nobody".');
  await expect(field(page, 'Tenant')).toBeFocused();
  await field(page, 'Tenant').fill('umbrella');
  await press(page, 'Create user');
  await expectSaid(page, 'Saved user bob');
});

test('409: a tier that is in use stays, and the page leads to what uses it', async ({
  page,
  server,
  openSignedIn,
}) => {
  await server.fill(CATALOG);
  await openSignedIn('directory/tiers?open=pro');
  await pressAndConfirm(page, 'Delete', 'Delete tier pro?');
  await expect(page.getByRole('alert')).toHaveText('Can’t delete tier "pro": tenant "umbrella" uses it.');
  await page
    .getByRole('navigation', { name: 'Where it is used' })
    .getByRole('link', { name: 'Tenants' })
    .click();
  await expect(page).toHaveURL(server.page('directory/tenants?tier=pro'));
  await expect(row(page, 'umbrella')).toBeVisible();
  expect(await server.admin('tiers/pro')).toMatchObject({ id: 'pro' });
});

test('a list is narrowed by what its records belong to', async ({ page, server, openSignedIn }) => {
  await server.fill({
    ...CATALOG,
    tenants: [{ id: 'umbrella', tier: 'pro' }, { id: 'acme' }],
    users: [
      { id: 'wesker', tenantId: 'umbrella' },
      { id: 'wile', tenantId: 'acme', tier: 'free' },
    ],
  });
  await openSignedIn('directory/users');
  await expect(row(page, 'wesker')).toBeVisible();
  await page.getByRole('search').getByLabel('Tenant', { exact: true }).fill('acme');
  await expect(row(page, 'wesker')).toHaveCount(0);
  await expect(row(page, 'wile')).toContainText('free');
  await expect(page).toHaveURL(server.page('directory/users?tenantId=acme'));
  await page.getByRole('link', { name: 'acme', exact: true }).click();
  await expect(dialog(page).getByRole('heading', { name: 'Tenant acme' })).toBeVisible();
});

test('an address with no such kind of record says so', async ({ page, openSignedIn }) => {
  await openSignedIn('directory/dragons');
  await expect(page.getByText('Page not found')).toBeVisible();
});
