/** The playground: one asks, and sees the decision and the window that it comes from. Works without a token. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import type { Decision, Server } from './server';

const HOUR_S = 3_600;

/** One policy for each user, in place of the default one. */
async function limitUsers(server: Server, limit: number, windowSeconds = HOUR_S): Promise<void> {
  await server.fillAlone({ policies: [{ id: 'each-user', scope: 'USER', limit, windowSeconds }] });
}

function decisionOf(page: Page): Locator {
  return page.getByRole('region', { name: 'Decision', exact: true });
}

/** What stands beside `term` in the figures of the decision. */
function figure(page: Page, term: string): Locator {
  return decisionOf(page)
    .locator('dl > div')
    .filter({ has: page.getByText(term, { exact: true }) })
    .getByRole('definition');
}

async function press(page: Page, name: string): Promise<void> {
  await page.getByRole('button', { name, exact: true }).click();
}

async function expectVerdict(page: Page, verdict: 'ALLOWED' | 'DENIED'): Promise<void> {
  await expect(decisionOf(page).getByText(verdict, { exact: true })).toBeVisible();
}

/** Every mark of the timeline in words, the newest first, as arrow keys tell them. */
async function marksOf(page: Page): Promise<string[]> {
  const timeline = page.getByRole('slider', { name: 'Allowed and denied checks in the window' });
  await timeline.focus();
  await timeline.press('End');
  const count = Number(await timeline.getAttribute('aria-valuemax'));
  const marks: string[] = [];
  for (let index = count; index >= 1; index -= 1) {
    await expect(timeline).toHaveAttribute('aria-valuenow', String(index));
    marks.push((await timeline.getAttribute('aria-valuetext')) ?? '');
    await timeline.press('ArrowLeft');
  }
  return marks;
}

test('a check is answered without a token, with the limit that decided', async ({ page, server }) => {
  await page.goto(server.page());
  const request = page.waitForRequest('**/rate-limit/check');
  await press(page, 'Check');
  expect(await (await request).headerValue('authorization')).toBeNull();
  await expectVerdict(page, 'ALLOWED');
  await expect(decisionOf(page)).toContainText(
    'Policy default: 100 requests in 1 hour for each user and model.',
  );
  await expect(figure(page, 'Used')).toHaveText('1 of 100 requests');
  await expect(figure(page, 'Remaining')).toHaveText('99');
});

test('a blocked check shows the limit, the count and a countdown', async ({ page, server }) => {
  await limitUsers(server, 2);
  await server.check({ userId: 'alice', modelId: 'gpt-4' });
  await server.check({ userId: 'alice', modelId: 'gpt-4' });
  await page.goto(server.page());
  await press(page, 'Check');
  await expectVerdict(page, 'DENIED');
  await expect(decisionOf(page)).toContainText('Policy each-user: 2 requests in 1 hour for each user.');
  await expect(decisionOf(page)).toContainText('The limit is used up.');
  await expect(figure(page, 'Used')).toHaveText('2 of 2 requests');
  await expect(figure(page, 'Remaining')).toHaveText('0');
  const countdown = figure(page, 'The same check is allowed in').getByRole('timer');
  await expect(countdown).toHaveText(/^59 min \d+ s$/u);
  const first = (await countdown.textContent()) ?? '';
  await expect(countdown).not.toHaveText(first);
});

test('the countdown ends when the same check passes again', async ({ page, server }) => {
  await limitUsers(server, 1, 2);
  await page.goto(server.page());
  await press(page, 'Check');
  await expectVerdict(page, 'ALLOWED');
  await press(page, 'Check');
  await expectVerdict(page, 'DENIED');
  await expect(figure(page, 'The same check is allowed in')).toHaveText('allowed now');
  await press(page, 'Check');
  await expectVerdict(page, 'ALLOWED');
});

test('a cost above the limit is told to pass never', async ({ page, server }) => {
  await server.fill({
    policies: [{ id: 'tokens', scope: 'USER', unit: 'tokens', limit: 500, windowSeconds: 60 }],
  });
  await page.goto(server.page('?cost=tokens%3D501'));
  await press(page, 'Check');
  await expectVerdict(page, 'DENIED');
  await expect(decisionOf(page)).toContainText(
    'The cost is above the limit itself, so this check is never allowed.',
  );
  await expect(figure(page, 'The same check is allowed in')).toHaveText('never');
});

test('the timeline shows as many admissions and denials as were made', async ({ page, server }) => {
  await limitUsers(server, 5);
  await page.goto(server.page());
  await press(page, 'Send 20');
  await expect(page.getByText('5 allowed, 15 denied here')).toBeVisible();
  await expect(page.getByText('5 requests in the window came from this page.')).toBeVisible();
  const marks = await marksOf(page);
  expect(marks.filter((words) => words.startsWith('Allowed 1 request at'))).toHaveLength(5);
  expect(marks.filter((words) => words.startsWith('Denied at'))).toHaveLength(15);
  expect(await server.peek({ userId: 'alice', modelId: 'gpt-4' })).toMatchObject({ count: 5 });
});

test('what others used is told apart from what this page made', async ({ page, server }) => {
  await limitUsers(server, 5);
  for (let sent = 0; sent < 3; sent += 1) await server.check({ userId: 'alice', modelId: 'gpt-4' });
  await page.goto(server.page());
  await press(page, 'Check');
  await expect(
    page.getByText(/^1 requests? in the window came from this page; 3 more came from elsewhere/u),
  ).toBeVisible();
});

test('an admission leaves the timeline when it leaves the window', async ({ page, server }) => {
  await limitUsers(server, 5, 2);
  await page.goto(server.page());
  await press(page, 'Check');
  await expect(page.getByText(/The oldest check leaves the window in/u)).toBeVisible();
  await expect(page.getByText('Nothing from this page is in the window.')).toBeVisible();
  expect(await server.peek({ userId: 'alice', modelId: 'gpt-4' })).toMatchObject({ count: 0 });
});

test('checks are sent on and on until they are stopped', async ({ page, server }) => {
  await limitUsers(server, 1_000_000);
  const used = async (): Promise<number> => (await server.peek({ userId: 'alice', modelId: 'gpt-4' })).count;
  await page.goto(server.page());
  await page.getByRole('textbox', { name: 'Checks a second' }).fill('50');
  await press(page, 'Keep sending');
  await expect.poll(used).toBeGreaterThan(10);
  await expect(page.getByText(/^\d\d+ allowed, 0 denied here$/u)).toBeVisible();
  await press(page, 'Stop');
  await expect(page.getByRole('button', { name: 'Keep sending' })).toBeEnabled();
  let before = -1;
  // At 50 a second, two readings agree only once nothing is sent any more.
  await expect
    .poll(
      async () => {
        const now = await used();
        const more = now - before;
        before = now;
        return more;
      },
      { intervals: [400] },
    )
    .toBe(0);
});

const REFUSED: readonly { field: string; value: string; says: RegExp; folded?: true }[] = [
  { field: 'User', value: 'u'.repeat(300), says: /^Too long: 300 bytes, at most 256\.$/u },
  { field: 'Model', value: 'm'.repeat(300), says: /^Too long: 300 bytes, at most 256\.$/u },
  { field: 'Tenant', value: 't'.repeat(300), says: /256/u, folded: true },
  { field: 'IP', value: '203.0.113.700', says: /^Enter an IPv4 or IPv6 address\.$/u, folded: true },
];

for (const { field, value, says, folded } of REFUSED) {
  test(`what the server refuses of ${field} is told at its field`, async ({ page, server }) => {
    await page.goto(server.page());
    if (folded) await page.getByText('Tenant, API key, service, IP, attributes, cost').click();
    const input = page.getByRole('textbox', { name: field, exact: true });
    await input.fill(value);
    await press(page, 'Check');
    await expect(input).toHaveAttribute('aria-invalid', 'true');
    await expect(input).toHaveAccessibleDescription(says);
    await expect(input).toBeFocused();
    await input.fill('198.51.100.1');
    await press(page, 'Check');
    await expectVerdict(page, 'ALLOWED');
    await expect(input).not.toHaveAttribute('aria-invalid', 'true');
  });
}

test('a cost that is no integer is told at its field and not sent', async ({ page, server }) => {
  await page.goto(server.page('?cost=tokens%3D1.5'));
  await press(page, 'Check');
  await expect(page.getByRole('textbox', { name: 'Amount' })).toHaveAccessibleDescription(
    'Enter a whole number from 0 to 9,007,199,254,740,991.',
  );
  await expect(decisionOf(page)).toContainText('Would this request be allowed now?');
});

test('the command to copy makes the same check in a shell', async ({ page, server }) => {
  await limitUsers(server, 100);
  const user = `o'brien "$HOME" \\ \`id\` ünï 漢`;
  const query = new URLSearchParams({ user, model: 'm;ls', tenant: 'acme & co', cost: 'requests=7' });
  await page.goto(server.page(`?${query.toString()}`));
  await press(page, 'Copy');
  await expect(page.getByRole('button', { name: 'Copied' })).toBeVisible();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  await expect(page.getByRole('region', { name: 'curl command' })).toHaveText(command);
  const { stdout } = await promisify(execFile)('sh', ['-c', command]);
  const decision = JSON.parse(stdout) as Decision;
  expect(decision).toMatchObject({ allowed: true, policyId: 'each-user', count: 7 });
  await press(page, 'Check');
  await expect(figure(page, 'Used')).toHaveText('14 of 100 requests');
});

test('the address holds the check, without the API key', async ({ page, context, server }) => {
  await page.goto(server.page());
  await page.getByRole('textbox', { name: 'User' }).fill('bob & co');
  await page.getByText('Tenant, API key, service, IP, attributes, cost').click();
  await page.getByRole('textbox', { name: 'API key' }).fill('tg_live_secret');
  await page.getByRole('textbox', { name: 'Service' }).fill('payments');
  await expect(page).toHaveURL(/service=payments/u);
  expect(page.url()).not.toContain('tg_live_secret');
  const other = await context.newPage();
  await other.goto(page.url());
  await expect(other.getByRole('textbox', { name: 'User' })).toHaveValue('bob & co');
  await expect(other.getByRole('textbox', { name: 'Model' })).toHaveValue('gpt-4');
  await expect(other.getByRole('textbox', { name: 'Service' })).toHaveValue('payments');
  await expect(other.getByRole('textbox', { name: 'API key' })).toHaveValue('');
});

test('each limit of a decision is listed, and its window can be shown', async ({ page, server }) => {
  await server.fill({
    policies: [
      { id: 'each-user', scope: 'USER', limit: 3, windowSeconds: 60 },
      { id: 'each-model', scope: 'MODEL', limit: 50, windowSeconds: HOUR_S },
    ],
  });
  await page.goto(server.page());
  await press(page, 'Check');
  const limits = page.getByRole('region', { name: 'Limits', exact: true });
  await expect(limits.getByRole('row', { name: /each-user.*1 of 3 requests/u })).toBeVisible();
  await expect(limits.getByRole('row', { name: /each-model.*1 of 50 requests/u })).toBeVisible();
  await expect(page.getByRole('heading', { name: 'The last 1 minute of each-user' })).toBeVisible();
  await press(page, 'Show the window of each-model');
  await expect(page.getByRole('heading', { name: 'The last 1 hour of each-model' })).toBeVisible();
});

test('a server that is gone is told, and the next check finds it again', async ({ page, server }) => {
  await limitUsers(server, 3);
  await page.goto(server.page());
  await press(page, 'Check');
  await expectVerdict(page, 'ALLOWED');
  const health = page.getByRole('status', { name: 'Health of the server' });
  await expect(health).toHaveText('Ready');
  await server.kill();
  await press(page, 'Check');
  const alert = page.getByRole('alert');
  await expect(alert).toContainText('The server is not responding');
  await expect(alert).toContainText('It may be restarting, or your network connection to it may be down.');
  await expect(health).toHaveText('Offline');
  // What was decided before stays to be read.
  await expectVerdict(page, 'ALLOWED');
  await server.restart();
  await press(page, 'Check');
  await expect(alert).toBeHidden();
  await expect(health).toHaveText('Ready');
  // The store in memory went with the process.
  await expect(figure(page, 'Used')).toHaveText('1 of 3 requests');
});

test('a steady run ends when the server is gone', async ({ page, server }) => {
  await page.goto(server.page());
  await press(page, 'Keep sending');
  await expectVerdict(page, 'ALLOWED');
  await server.kill();
  await expect(page.getByRole('alert')).toContainText('The server is not responding');
  await expect(page.getByRole('button', { name: 'Keep sending' })).toBeEnabled();
  await expect(page.getByRole('button', { name: 'Check', exact: true })).toBeEnabled();
});

test('keyboard alone: from the address bar to a blocked check', async ({ page, server }) => {
  await limitUsers(server, 1);
  await page.goto(server.page());
  await expect(page.getByRole('button', { name: 'Check', exact: true })).toBeVisible();
  await page.keyboard.press('Tab');
  await expect(page.getByRole('button', { name: 'Skip to content' })).toBeFocused();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  await expect(page.getByRole('textbox', { name: 'User' })).toBeFocused();
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type('carol');
  await page.keyboard.press('Enter');
  await expectVerdict(page, 'ALLOWED');
  await expect(page.getByRole('textbox', { name: 'User' })).toBeFocused();
  for (const name of ['Model', 'Check', 'Checks', 'Send 20']) {
    await page.keyboard.press('Tab');
    // Between them is what is folded away, which opens by keyboard.
    if (name === 'Check') await page.keyboard.press('Tab');
    await expect(page.locator(':focus')).toHaveAccessibleName(name);
  }
  await page.keyboard.press('Space');
  await expectVerdict(page, 'DENIED');
  await expect(page.getByText('1 allowed, 20 denied here')).toBeVisible();
  expect(await server.peek({ userId: 'carol', modelId: 'gpt-4' })).toMatchObject({ count: 1 });
});
