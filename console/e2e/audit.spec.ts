/** The audit log: who changed what, and what became of it since. */
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import type { Server } from './server';

const PER_USER = { id: 'per-user', scope: 'USER', limit: 20, windowSeconds: 60 };

/** The oldest first: a policy is made and changed, a tier made, changed and deleted. */
async function makeChanges(server: Server): Promise<void> {
  await server.admin('policies', { method: 'POST', body: PER_USER });
  await server.admin('policies/per-user', { method: 'PUT', body: { ...PER_USER, limit: 25 } });
  await server.admin('tiers', { method: 'POST', body: { id: 'gold' } });
  await server.admin('tiers/gold', { method: 'PATCH', body: { name: 'Gold' } });
  await server.admin('tiers/gold', { method: 'DELETE' });
}

/** The lines of the log, the newest first. */
function lines(page: Page): Locator {
  return page
    .getByRole('table', { name: 'changes' })
    .getByRole('row')
    .filter({ has: page.getByRole('link') });
}

test('changes are listed with what they changed, the newest first', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('audit');
  await expect(page.getByText('There are no changes yet')).toBeVisible();
  await makeChanges(server);
  await page.getByRole('button', { name: 'Refresh' }).click();
  await expect(lines(page)).toHaveText([
    /deleted tier gold/u,
    /changed tier gold.*name gold → Gold/u,
    /created tier gold/u,
    /changed policy per-user.*limit 20 → 25/u,
    /created policy per-user.*limit 20/u,
  ]);
});

test('the log is narrowed by kind and id, as the address says', async ({ page, server, openSignedIn }) => {
  await makeChanges(server);
  await openSignedIn('audit');
  await page.getByLabel('Kind').selectOption('tier');
  await expect(lines(page)).toHaveText([/deleted/u, /changed/u, /created/u]);
  await expect(page).toHaveURL(server.page('audit?kind=tier'));
  await page.getByLabel('ID', { exact: true }).fill('silver');
  await expect(page.getByText('No matching changes')).toBeVisible();
  await page.goto(server.page('audit?kind=policy&id=per-user'));
  await expect(lines(page)).toHaveText([/changed policy per-user/u, /created policy per-user/u]);
});

test('a change is shown before and after, and what became of it', async ({ page, server, openSignedIn }) => {
  await makeChanges(server);
  await openSignedIn('audit?kind=policy');
  const dialog = page.getByRole('dialog');
  const versions = dialog.getByRole('table', { name: 'Before and after' }).getByRole('row');
  await lines(page).first().getByRole('link').first().click();
  await expect(versions).toHaveText(['FieldBeforeAfter', /^limit.*20.*25$/u]);
  await expect(dialog).toContainText('Since then, the policy per-user has not changed.');
  await page.keyboard.press('Escape');
  await expect(dialog).toHaveCount(0);
  await lines(page).last().getByRole('link').first().click();
  await expect(dialog).toContainText('Since then, the policy per-user has changed');
  await page.getByRole('link', { name: 'Open policy per-user' }).click();
  await expect(dialog.getByLabel('Limit', { exact: true })).toHaveValue('25');
  await dialog.getByRole('link', { name: 'Changes' }).click();
  await expect(page).toHaveURL(server.page('audit?kind=policy&id=per-user'));
  await page.goto(server.page('audit?kind=tier'));
  await expect(lines(page)).toHaveCount(3);
  await lines(page).last().getByRole('link').first().click();
  await expect(dialog).toContainText('The tier gold no longer exists');
});

test('what is changed in the console is in the log, without the secret of an API key', async ({
  page,
  server,
  openSignedIn,
}) => {
  await server.fill({ tenants: [{ id: 'acme' }] });
  await openSignedIn('directory/api-keys?new=1');
  await page.getByRole('dialog').getByLabel('ID', { exact: true }).fill('ci');
  await page.getByRole('dialog').getByLabel('Tenant', { exact: true }).fill('acme');
  await page.getByRole('button', { name: 'Create API key' }).click();
  const secret = (await page.getByRole('dialog').getByRole('code').textContent()) ?? '';
  await page.getByRole('button', { name: 'I have saved it' }).click();
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Audit' }).click();
  await expect(lines(page)).toHaveText([/created API key ci/u, /created tenant acme/u]);
  await lines(page).first().getByRole('link').first().click();
  await expect(page.getByRole('dialog').getByRole('table', { name: 'Before and after' })).toContainText(
    'acme',
  );
  expect(secret).not.toBe('');
  expect(await page.content()).not.toContain(secret);
});
