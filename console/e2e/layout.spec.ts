/** Nothing is cut off, at the width of a desk and of a phone, and what one needs next is in sight. */
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';

const WIDTHS_PX = [1_440, 390] as const;
const LONG = 'a-policy-with-a-name-that-is-rather-long';

/** What of `root` is wider than the box that shows it, or lies outside of the window. */
function cutOff(root: Locator): Promise<string[]> {
  return root.evaluate((element) =>
    [element, ...element.querySelectorAll('*')]
      .filter((one) => {
        const { left, right, width } = one.getBoundingClientRect();
        if (width <= 1) return false;
        const isOutside = left < 0 || right > document.documentElement.clientWidth + 1;
        const isClipped =
          one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX !== 'visible';
        return isOutside || isClipped;
      })
      .map((one) => one.outerHTML.slice(0, 120)),
  );
}

async function expectWhole(page: Page, root: Locator): Promise<void> {
  for (const width of WIDTHS_PX) {
    await page.setViewportSize({ width, height: 844 });
    await expect(root).toBeVisible();
    expect(await cutOff(root), `${String(width)} px`).toEqual([]);
  }
}

const POLICIES = [
  { id: 'each-user', scope: 'USER', limit: 2, windowSeconds: 3_600 },
  { id: LONG, scope: 'MODEL', unit: 'input_tokens', limit: 2_000_000, windowSeconds: 86_400 },
  { id: 'trial', scope: 'TENANT', limit: 1, windowSeconds: 3_600, mode: 'shadow' },
];

test('the limits of a decision are shown whole', async ({ page, server }) => {
  await server.fill({ policies: POLICIES });
  await page.goto(server.page('?tenant=acme&cost=input_tokens%3D1563768'));
  await page.getByRole('button', { name: 'Send 20' }).click();
  await expect(page.getByText('DENIED', { exact: true })).toBeVisible();
  const limits = page.getByRole('region', { name: 'Limits', exact: true });
  await expectWhole(page, limits);
  await expect(limits.getByText(/would deny \(shadow mode\)/u)).toBeVisible();
  await expect(page.getByRole('button', { name: `Show the window of ${LONG}` })).toBeVisible();
});

test('every page is in the navigation of a phone', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: POLICIES });
  await openSignedIn('policies');
  const navigation = page.getByRole('navigation', { name: 'Pages' });
  await expectWhole(page, navigation);
  for (const name of ['Playground', 'Live', 'Leases', 'Explain', 'Policies', 'Directory', 'Audit']) {
    await expect(navigation.getByRole('link', { name })).toBeInViewport({ ratio: 1 });
  }
});

test('on a phone each record is a card with all that the table says', async ({
  page,
  server,
  openSignedIn,
}) => {
  await server.fill({
    policies: POLICIES,
    tiers: [{ id: 'gold' }],
    tenants: [{ id: 'acme', tier: 'gold' }],
    users: [{ id: 'alice', name: 'Alice', tenantId: 'acme', tier: 'gold' }],
  });
  await openSignedIn('directory/users');
  const users = page.getByRole('table', { name: 'users' });
  await expectWhole(page, users);
  await expect(users.getByRole('row', { name: /Alice.*alice.*acme.*gold/u })).toBeVisible();
  await expect(users.getByRole('button', { name: 'Tenant' })).toBeVisible();
  await page.goto(server.page('audit'));
  const changes = page.getByRole('table', { name: 'changes' });
  await expectWhole(page, changes);
  await expect(changes.getByRole('row', { name: /admin.*created.*user alice.*name Alice/u })).toBeVisible();
});

test('a decision in Live is shown whole', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: POLICIES });
  await openSignedIn('live');
  await expect(page.getByRole('status', { name: 'Stream of decisions' })).toHaveText('Connected');
  const check = { userId: 'alice', modelId: 'gpt-4', tenantId: 'acme', cost: { input_tokens: 1_439_876 } };
  await server.check(check);
  await server.check(check);
  await expect(page.getByText('2 shown')).toBeVisible();
  await page.getByRole('button', { name: 'Pause' }).click();
  const row = page.getByRole('row', { name: /Denied/u });
  for (const width of WIDTHS_PX) {
    await page.setViewportSize({ width, height: 844 });
    await expect(row.getByText('Needed 1,439,876; 560,124 left')).toBeVisible();
    await expect(row.getByText(/tenant acme/u)).toBeVisible();
    expect(await cutOff(row.getByText(/^Needed/u)), `${String(width)} px`).toEqual([]);
  }
});

test('Save and what is wrong stay in sight', async ({ page, openSignedIn }) => {
  await openSignedIn('policies?new=1');
  const dialog = page.getByRole('dialog');
  for (const width of WIDTHS_PX) {
    await page.setViewportSize({ width, height: 700 });
    const save = dialog.getByRole('button', { name: 'Create policy' });
    await expect(save).toBeInViewport({ ratio: 1 });
    await save.click();
    await expect(dialog.getByRole('alert')).toHaveText('Not saved: 2 fields need a different value.');
    await expect(dialog.getByRole('alert')).toBeInViewport({ ratio: 1 });
    await dialog.getByLabel('Share of internal, %').scrollIntoViewIfNeeded();
    await expect(save).toBeInViewport({ ratio: 1 });
  }
});
