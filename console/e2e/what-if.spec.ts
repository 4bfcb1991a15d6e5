/** What if: other policies on an uploaded trace and on recorded traffic, what is wrong with them, and who may ask. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from '@playwright/test';

import { expect, test } from './fixtures';

const POLICIES = 'policies: [{id: one, scope: USER, limit: 1, window: 1m}]';
const TRACE = 'timestamp,userId,modelId\n0,ann,m\n1,ann,m\n2,bob,m\n';

async function upload(page: Page, trace: string): Promise<void> {
  await page.getByLabel('Traffic').selectOption('file');
  const file = { name: 'trace.csv', mimeType: 'text/csv', buffer: Buffer.from(trace) };
  await page.getByLabel('Trace, in CSV').setInputFiles(file);
}

async function compare(page: Page, policies: string): Promise<void> {
  await page.getByLabel('Policies in place').fill(policies);
  await page.getByRole('button', { name: 'Compare' }).click();
}

test('an uploaded trace shows who would lose, and when', async ({ page, openSignedIn }) => {
  await openSignedIn('what-if');
  await upload(page, TRACE);
  await compare(page, POLICIES);
  await expect(page.getByText('denied by one with the other policies')).toBeVisible();
  await expect(page.getByText('In 1 of 3 steps, other numbers of checks are allowed')).toBeVisible();
  const denied = page.getByRole('slider', { name: 'Denied checks' });
  await denied.focus();
  await page.keyboard.press('Home');
  await expect(denied).toHaveAttribute('aria-valuetext', /: Now 0, Then 0$/u);
  await page.keyboard.press('ArrowRight');
  await expect(denied).toHaveAttribute('aria-valuetext', /1970.*: Now 0, Then 1$/u);
  await page.getByText('Over time as a table').click();
  const rows = page.getByRole('region', { name: 'Over time as a table' }).getByRole('row');
  await expect(rows).toHaveCount(4);
  await expect(rows.nth(2).getByRole('cell')).toHaveText(['1', '1', '0', '0', '1']);
});

test('policies can be TOML', async ({ page, openSignedIn }) => {
  await openSignedIn('what-if');
  await upload(page, TRACE);
  await page.getByLabel('Format of the policies').selectOption('toml');
  await compare(page, '[[policies]]\nid = "two"\nscope = "USER"\nlimit = 1\nwindow = "1m"\n');
  await expect(page.getByText('denied by two with the other policies')).toBeVisible();
  // What is inserted is YAML.
  await page.getByRole('button', { name: 'Insert the policies in force' }).click();
  await expect(page.getByLabel('Format of the policies')).toHaveValue('yaml');
});

test('what is wrong is told with its field, and can be corrected', async ({ page, openSignedIn }) => {
  await openSignedIn('what-if');
  await upload(page, TRACE);
  await compare(page, POLICIES.replace('limit', 'limt'));
  const alert = page.getByRole('alert');
  await expect(alert).toContainText('policies[0].limt: is not a field (did you mean `limit`?)');
  await upload(page, 'timestamp,userId\nsoon,a\n');
  await compare(page, POLICIES);
  await expect(alert).toContainText('trace: line 2: timestamp: is "soon"');
  await page.getByLabel('Traffic').selectOption('recorded');
  await compare(page, POLICIES);
  await expect(alert).toContainText('trace: is missing, and this server records no traffic');
  await upload(page, TRACE);
  await compare(page, POLICIES);
  await expect(page.getByRole('heading', { name: 'Over time' })).toBeVisible();
  await expect(alert).toHaveCount(0);
});

test('a token that only reads may ask', async ({ page, server, openSignedIn }) => {
  await openSignedIn('what-if', { token: server.readToken });
  await page.getByRole('button', { name: 'Insert the policies in force' }).click();
  await expect(page.getByLabel('Policies in place')).toHaveValue(/id: "default"/u);
  await upload(page, TRACE);
  await page.getByRole('button', { name: 'Compare' }).click();
  await expect(page.getByText('No decision differs.')).toBeVisible();
});

test.describe('with a recording', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tollgate-what-if-'));
  test.use({ flags: ['--record', join(directory, 'traffic.csv')] });
  test.afterAll(() => rmSync(directory, { recursive: true }));

  test('the recorded traffic is compared', async ({ page, server, openSignedIn }) => {
    for (let sent = 0; sent < 3; sent += 1) await server.check({ userId: 'ann', modelId: 'm' });
    await openSignedIn('what-if');
    await compare(page, POLICIES);
    await expect(page.getByText('denied by one with the other policies')).toBeVisible();
    await expect(page.getByRole('heading', { name: 'Over time' })).toBeVisible();
  });
});
