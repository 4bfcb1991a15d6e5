/** Live: decisions as they are made, which keys use most, and what is seen of a server that goes away. */
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import type { Check, Server } from './server';

const ALICE: Check = { userId: 'alice', modelId: 'gpt-4' };
const BOB: Check = { userId: 'bob', modelId: 'claude' };

/** A policy of 2 requests for each user. */
async function limitUsers(server: Server, limit = 2): Promise<void> {
  await server.fillAlone({ policies: [{ id: 'each-user', scope: 'USER', limit, windowSeconds: 3_600 }] });
}

/** Of as many users, numbered from `first`. */
function checksOf(count: number, first: number): Check[] {
  return Array.from({ length: count }, (_, index) => ({
    userId: `user-${String(first + index).padStart(3, '0')}`,
    modelId: 'gpt-4',
  }));
}

async function send(server: Server, ...checks: Check[]): Promise<void> {
  for (const check of checks) await server.check(check);
}

function connection(page: Page): Locator {
  return page.getByRole('status', { name: 'Stream of decisions' });
}

/** The decisions that are drawn, the newest first. */
function rows(page: Page): Locator {
  return page
    .getByRole('table', { name: 'Decisions, the newest first' })
    .getByRole('row')
    .filter({ has: page.getByRole('cell') });
}

/** What stands below the name of a figure. */
function tile(page: Page, name: string): Locator {
  return page
    .locator('dl > div')
    .filter({ has: page.getByText(name, { exact: true }) })
    .getByRole('definition');
}

async function openLive(page: Page, open: (path: string) => Promise<void>, query = ''): Promise<void> {
  await open(`live${query}`);
  await expect(connection(page)).toHaveText('Connected');
}

test('decisions show up as they are made, with what decided', async ({ page, server, openSignedIn }) => {
  await limitUsers(server);
  await openLive(page, openSignedIn);
  await expect(page.getByText('No decisions yet')).toBeVisible();
  await send(server, ALICE, ALICE, ALICE, { ...BOB, tenantId: 'acme' });
  await expect(rows(page)).toHaveCount(4);
  await expect(rows(page).nth(0)).toHaveText(/Allowed.*bob.*claude.*each-user.*1 of 2.*tenant acme/u);
  await expect(rows(page).nth(1)).toHaveText(
    /Denied.*Needed 1; 0 left.*alice.*gpt-4.*each-user.*2 of 2.*retry in/u,
  );
  await expect(rows(page).nth(3)).toHaveText(/Allowed.*alice.*1 of 2/u);
  await expect(page.getByText('4 shown')).toBeVisible();
});

test('changes of leases show up as they are made', async ({ page, server, openSignedIn }) => {
  await server.fillAlone({
    policies: [
      { id: 'tokens', scope: 'USER', unit: 'tokens', limit: 50, windowSeconds: 3_600 },
      { id: 'parallel', scope: 'USER', unit: 'concurrency', limit: 2 },
    ],
  });
  await openLive(page, openSignedIn);
  const changes = page.getByRole('table', { name: 'changes of leases, the newest first', exact: true });
  const id = await server.reserve({ ...ALICE, cost: { tokens: 40 }, ttlMs: 60_000 });
  await server.observe(id, { tokens: 10 });
  await server.settle(id, { tokens: 90 }, 2);
  await server.reserve({ ...BOB, ttlMs: 200 });
  await expect(changes.locator('tbody').getByRole('row')).toHaveText([
    /Expired.*bob, claude.*parallel: slot free/u,
    /Settled.*alice, gpt-4.*parallel: slot free; tokens: 90 tokens, 40 before.*40 above tokens/u,
    /Extended.*alice, gpt-4.*parallel: slot taken; tokens: 40 tokens/u,
  ]);
});

test('figures tell how the server is', async ({ page, server, openSignedIn }) => {
  await limitUsers(server);
  await openLive(page, openSignedIn);
  await send(server, ALICE, ALICE, ALICE, BOB);
  await expect(tile(page, 'Denied share')).toContainText('25 %');
  await expect(tile(page, 'Store')).toHaveText('OK');
  await expect(tile(page, 'Catalog')).toHaveText('OK');
  await expect(tile(page, 'Keys held')).toHaveText('2');
  // The count; the version is higher, since each change makes another one.
  await server.admin('policies/each-user', {
    method: 'PATCH',
    body: { limit: 3 },
  });
  await server.fill({ policies: [{ id: 'each-model', scope: 'MODEL', limit: 9, windowSeconds: 60 }] });
  await expect(tile(page, 'Policies')).toHaveText('2');
  await page.getByText('The last 15 minutes as a table').click();
  const minutes = page.getByRole('region', { name: 'The last 15 minutes as a table' });
  await expect(minutes.getByRole('row').nth(1)).toBeVisible();
  const chart = page.getByRole('slider', { name: 'Decisions a second', exact: true });
  await chart.press('Home');
  await expect(chart).toHaveAttribute('aria-valuenow', '0');
  await expect(chart).toHaveAttribute('aria-valuetext', /Allowed .*, Denied /u);
});

test('a denial says what it needed, and Explain opens that decision', async ({
  page,
  server,
  openSignedIn,
}) => {
  const tokens = { id: 'tokens', scope: 'USER', unit: 'tokens', limit: 10_000, windowSeconds: 3_600 };
  await server.fill({ policies: [tokens] });
  await openLive(page, openSignedIn);
  const check = { ...ALICE, service: 'chat', attributes: { region: 'eu', tier: 'gold' } };
  await send(server, { ...check, cost: { tokens: 8_561 } }, { ...check, cost: { tokens: 2_100 } });
  await expect(rows(page).first()).toHaveText(/Denied.*Needed 2,100; 1,439 left.*8,561 of 10,000/u);
  await page.getByRole('button', { name: 'Pause' }).click();
  await rows(page).first().getByRole('link', { name: 'Explain alice, gpt-4' }).click();
  const decision = page.getByRole('region', { name: 'This decision' });
  await expect(decision).toContainText(/Denied at [\d:]+ by policy tokens\./u);
  await expect(decision).toContainText('Needed 2,100 tokens; 1,439 of 10,000 left.');
  await expect(page.getByRole('region', { name: 'Verdict' })).toContainText('would be denied');
  await expect(page.getByRole('textbox', { name: 'Amount' })).toHaveValue('2100');
  await expect(page.getByRole('textbox', { name: 'Service' })).toHaveValue('chat');
  const subject = page.getByRole('region', { name: 'Subject of the check' });
  await expect(subject).toContainText(/tier.*gold.*from the check/u);
  await expect(subject).toContainText(/region.*eu.*from the check/u);
  // Another check is not the one that was decided.
  await page.getByRole('textbox', { name: 'Amount' }).fill('1000');
  await page.getByRole('button', { name: 'Explain', exact: true }).click();
  await expect(page.getByRole('region', { name: 'Verdict' })).toContainText('would be allowed');
  await expect(decision).toHaveCount(0);
});

test('a filter leaves what meets it, and is in the address', async ({
  page,
  context,
  server,
  openSignedIn,
}) => {
  await limitUsers(server);
  await openLive(page, openSignedIn);
  await send(server, ALICE, ALICE, ALICE, BOB);
  await expect(rows(page)).toHaveCount(4);
  const filter = page.getByRole('search', { name: 'Filter the decisions' });
  await filter.getByLabel('Outcome').selectOption('Denied');
  await expect(rows(page)).toHaveCount(1);
  await expect(page).toHaveURL(server.page('live?allowed=false'));
  await filter.getByRole('searchbox', { name: 'User' }).fill('bob');
  await expect(page).toHaveURL(server.page('live?allowed=false&user=bob'));
  await expect(page.getByText('No matching decisions yet')).toBeVisible();
  await expect(connection(page)).toHaveText('Connected');
  await send(server, ALICE, BOB, BOB);
  await expect(rows(page)).toHaveText([/Denied.*bob/u]);

  const other = await context.newPage();
  await openSignedIn('live?allowed=false&user=bob', { tab: other });
  await expect(connection(other)).toHaveText('Connected');
  await expect(other.getByRole('searchbox', { name: 'User' })).toHaveValue('bob');
  await send(server, BOB, ALICE);
  await expect(rows(other)).toHaveText([/Denied.*bob/u]);
  await expect(rows(page)).toHaveCount(2);

  await filter.getByRole('button', { name: 'Clear' }).click();
  await expect(page).toHaveURL(server.page('live'));
  // The address changes before the page is drawn anew: until then the stream that listens is the one with the filter.
  await expect(page.getByText('No decisions yet')).toBeVisible();
  await expect(connection(page)).toHaveText('Connected');
  await send(server, ALICE);
  await expect(rows(page).first()).toHaveText(/Denied.*alice/u);
});

test('a filter that the server rejects says what is wrong with it', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn(`live?user=${'u'.repeat(300)}`);
  await expect(connection(page)).toHaveText('Disconnected');
  await expect(page.getByText('Filter user: Too long: 300 bytes, at most 256.')).toBeVisible();
  await page.getByRole('button', { name: 'Clear' }).click();
  await expect(connection(page)).toHaveText('Connected');
  await expect(page).toHaveURL(server.page('live'));
});

test('a paused list stands still, and tells how many came meanwhile', async ({
  page,
  server,
  openSignedIn,
}) => {
  await limitUsers(server);
  await openLive(page, openSignedIn);
  await send(server, ALICE);
  await expect(rows(page)).toHaveCount(1);
  await page.getByRole('button', { name: 'Pause' }).click();
  await send(server, BOB, BOB, BOB);
  await expect(page.getByText('Paused; 3 new')).toBeVisible();
  await expect(rows(page)).toHaveText([/alice/u]);
  await expect(rows(page).getByRole('link', { name: 'Explain alice, gpt-4' })).toHaveAttribute(
    'href',
    /^#\/explain\?user=alice&model=gpt-4&decision=/u,
  );
  await page.getByRole('button', { name: 'Resume' }).click();
  await expect(rows(page)).toHaveCount(4);
  await expect(rows(page).first()).toHaveText(/Denied.*bob/u);
});

test('hundreds of decisions at once are all kept, and few of them drawn', async ({
  page,
  server,
  openSignedIn,
}) => {
  await limitUsers(server);
  await openLive(page, openSignedIn);
  // The list is drawn every tenth of a second at most, in which the server tells 100 decisions before it samples.
  for (let batch = 0; batch < 8; batch += 1) {
    await server.checkMany(checksOf(45, batch * 45));
    await expect(page.getByText(`${(batch + 1) * 45} shown`)).toBeVisible();
  }
  await expect(rows(page).first()).toContainText('user-359');
  expect(await rows(page).count()).toBeLessThan(60);
  await page.getByRole('region', { name: 'List of decisions' }).press('End');
  await expect(rows(page).last()).toContainText('user-000');
  expect(await rows(page).count()).toBeLessThan(60);
  await expect(page.getByText('Paused; 0 new')).toBeVisible();
  await page.getByRole('button', { name: 'Resume' }).click();
  await expect(rows(page).first()).toContainText('user-359');
});

test('of more than 1,000 a second, the page shows a sample, and can still be used', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openLive(page, openSignedIn);
  const traffic = new AbortController();
  const flood = async (): Promise<void> => {
    while (!traffic.signal.aborted) await server.checkMany(checksOf(1_000, 0));
  };
  const use = async (): Promise<void> => {
    await expect(page.getByText(/^A sample: there are more than 1,000 decisions a second/u)).toBeVisible();
    await expect(rows(page).filter({ hasText: /represents \d+/u })).not.toHaveCount(0);
    await page.getByRole('button', { name: 'Pause' }).click();
    await expect(page.getByText(/^Paused; [1-9][\d,]* new$/u)).toBeVisible();
    expect(await rows(page).count()).toBeLessThan(60);
    await page.getByRole('button', { name: 'Resume' }).click();
    await expect(page.getByText(/^[1-9][\d,]* shown$/u)).toBeVisible();
  };
  await Promise.all([flood(), use().finally(() => traffic.abort())]);
  await expect(tile(page, 'Keys held')).toHaveText('1,000');
  await expect(connection(page)).toHaveText(/^Connected/u);
});

test('the keys that use most, and those that were denied most, come first', async ({
  page,
  server,
  openSignedIn,
}) => {
  await limitUsers(server, 3);
  const carol: Check = { userId: 'carol', modelId: 'gpt-4' };
  await send(server, ALICE, ALICE, ALICE, ALICE, BOB, BOB, BOB, BOB, BOB, carol);
  await openLive(page, openSignedIn);
  const keys = page.getByRole('region', { name: 'Top keys' });
  const items = keys.getByRole('listitem');
  await expect(keys.getByLabel('Policy')).toHaveValue('each-user');
  await expect(items).toHaveCount(3);
  await expect(items.nth(2)).toHaveText(/carol.*1 of 3.*1 allowed, 0 denied/u);
  await keys.getByLabel('By').selectOption('Denials');
  await expect(items).toHaveText([/bob.*3 of 3; retry in.*2 denied/u, /alice.*1 denied/u]);
  await expect(page).toHaveURL(/by=denials/u);
  await send(server, ALICE, ALICE);
  await expect(items).toHaveText([/alice.*3 denied/u, /bob.*2 denied/u]);
});

test('a connection that is lost is told, and taken up when the server is back', async ({
  page,
  server,
  openSignedIn,
}) => {
  await limitUsers(server);
  await openLive(page, openSignedIn);
  await send(server, ALICE);
  await expect(rows(page)).toHaveCount(1);
  await expect(tile(page, 'Store')).toHaveText('OK');
  await server.kill();
  await expect(connection(page)).toHaveText('Disconnected');
  await expect(page.getByText('The server is not responding', { exact: true })).toBeVisible();
  await expect(tile(page, 'Store')).toHaveText('–');
  // What was heard before stays to be read.
  await expect(rows(page)).toHaveText([/alice/u]);
  await server.restart();
  await expect(connection(page)).toHaveText('Connected');
  await send(server, BOB);
  await expect(rows(page)).toHaveText([/bob/u, /alice/u]);
  await expect(tile(page, 'Store')).toHaveText('OK');
});

test('two tabs hear the same, and one makes what the other shows', async ({
  page,
  context,
  server,
  openSignedIn,
}) => {
  await openLive(page, openSignedIn);
  const other = await context.newPage();
  await other.goto(server.page('?user=dave&model=m-1'));
  await other.getByRole('button', { name: 'Check', exact: true }).click();
  await expect(rows(page)).toHaveText([/Allowed.*dave.*m-1.*default.*1 of 100/u]);
  await openSignedIn('live', { tab: other });
  await expect(connection(other)).toHaveText('Connected');
  await send(server, ALICE);
  await expect(rows(page)).toHaveText([/alice/u, /dave/u]);
  await expect(rows(other)).toHaveText([/alice/u]);
});
