/** Policies: read, found, made, changed and deleted, by one alone and by two at once. */
import type { Locator, Page } from '@playwright/test';

import { expect, test } from './fixtures';
import type { Server } from './server';

const PER_USER = { id: 'per-user', scope: 'USER', limit: 20, windowSeconds: 60 };
const PAYMENTS = {
  id: 'payments',
  scope: 'USER',
  match: { service: 'payments' },
  limit: 5,
  windowSeconds: 3_600,
};
const BANNED = { id: 'banned', scope: 'USER', match: { user: 'mallory' }, limit: 0, windowSeconds: 60 };

/** Every policy that the server has, by id. */
async function kept(server: Server): Promise<object[]> {
  return (await server.admin<{ items: object[] }>('policies')).items;
}

/** Changes `per-user` as somebody else would. */
async function changeElsewhere(server: Server): Promise<void> {
  await server.admin('policies/per-user', { method: 'PUT', body: { ...PER_USER, limit: 25 } });
}

function table(page: Page): Locator {
  return page.getByRole('table', { name: 'policies' });
}

function rows(page: Page): Locator {
  return table(page)
    .getByRole('row')
    .filter({ has: page.getByRole('link') });
}

function dialog(page: Page): Locator {
  return page.getByRole('dialog');
}

function field(page: Page, label: string): Locator {
  return dialog(page).getByLabel(label, { exact: true });
}

function words(page: Page): Locator {
  return dialog(page).getByRole('region', { name: 'What this policy does' });
}

async function press(page: Page, name: string): Promise<void> {
  await page.getByRole('button', { name, exact: true }).click();
}

async function expectSaid(page: Page, text: string): Promise<void> {
  await expect(page.getByRole('log', { name: 'Notifications' })).toContainText(text);
}

test.use({ keepsBuiltIn: false });

test('without policies, the page says what holds and offers to make one', async ({ page, openSignedIn }) => {
  await openSignedIn('policies');
  await expect(page.getByText('There are no policies yet')).toBeVisible();
  await expect(page.getByText('Without any, checks are not limited.')).toBeVisible();
  await press(page, 'New policy');
  await expect(dialog(page).getByRole('heading', { name: 'New policy' })).toBeVisible();
});

test('the built-in policy is listed and marked', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: [{ id: 'default', scope: 'USER_MODEL', limit: 100, windowSeconds: 3600 }] });
  await openSignedIn('policies');
  await expect(rows(page)).toHaveCount(1);
  await expect(rows(page).first()).toContainText('built-in');
});

test('policies are listed in words, sorted and searched', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: [PER_USER, PAYMENTS, BANNED] });
  await openSignedIn('policies');
  await expect(rows(page)).toHaveText([
    /^banned.*user mallory: everything is denied.*ban/u,
    /^payments.*each user: 5 requests an hour on service payments/u,
    /^per-user.*each user: 20 requests a minute/u,
  ]);
  await expect(page.getByText('All 3 policies')).toBeVisible();
  await page.getByRole('button', { name: 'Limit' }).click();
  await expect(page.getByRole('columnheader', { name: 'Limit' })).toHaveAttribute('aria-sort', /./u);
  await page.getByRole('button', { name: 'Limit' }).click();
  await expect(page.getByRole('columnheader', { name: 'Limit' })).toHaveAttribute('aria-sort', 'ascending');
  await expect(rows(page)).toHaveText([/^banned/u, /^payments/u, /^per-user/u]);
  await page.getByRole('searchbox', { name: 'Search policies' }).fill('Hour PAY');
  await expect(rows(page)).toHaveText([/^payments/u]);
  await expect(page).toHaveURL(server.page('policies?q=Hour+PAY'));
  await expect(page.getByText('1 found in all 3 policies')).toBeVisible();
  await page.getByRole('searchbox', { name: 'Search policies' }).fill('nothing like it');
  await expect(page.getByText('No matching policies')).toBeVisible();
});

test('a policy is made: words say what it will do, and then it does', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('policies');
  await press(page, 'New policy');
  await expect(words(page)).toContainText('Set a limit to see a summary here.');
  await field(page, 'ID').fill('free-payments');
  await field(page, 'Counts for').selectOption('each user');
  await press(page, '+ Add a condition');
  await expect(field(page, 'Attribute')).toBeFocused();
  await field(page, 'Attribute').fill('service');
  await field(page, 'is one of').fill('payments');
  await field(page, 'is one of').press('Enter');
  await field(page, 'Limit').fill('2');
  await expect(words(page)).toContainText('each user: 2 requests a minute on service payments');
  await expect(words(page)).toContainText('It does not apply to checks without service.');
  await press(page, 'Create policy');
  await expect(dialog(page)).toBeHidden();
  await expectSaid(page, 'Saved policy free-payments');
  await expect(rows(page)).toHaveText([
    /^free-payments.*each user: 2 requests a minute on service payments/u,
  ]);
  expect(await kept(server)).toEqual([
    { id: 'free-payments', scope: 'USER', match: { service: 'payments' }, limit: 2, windowSeconds: 60 },
  ]);
  const check = { userId: 'alice', modelId: 'gpt-4', service: 'payments' };
  await expect.poll(async () => (await server.peek(check)).policyId).toBe('free-payments');
});

test('a policy of leases has no window, in the form, in words and in the playground', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('policies');
  await press(page, 'New policy');
  await field(page, 'ID').fill('slots');
  await field(page, 'Counts for').selectOption('each user');
  await field(page, 'Limit').fill('5');
  await expect(field(page, 'Window')).toBeVisible();
  await expect(field(page, 'Algorithm')).toBeVisible();
  await field(page, 'Unit').fill('concurrency');
  await field(page, 'Unit').blur();
  for (const label of ['Window', 'Window unit', 'Algorithm', 'Cost of a denied check'])
    await expect(field(page, label)).toBeHidden();
  await expect(words(page)).toContainText('each user: at most 5 leases at a time');
  await press(page, 'Create policy');
  await expect(dialog(page)).toBeHidden();
  await expect(rows(page)).toHaveText([/^slots.*each user: at most 5 leases at a time/u]);
  expect(await kept(server)).toEqual([{ id: 'slots', scope: 'USER', unit: 'concurrency', limit: 5 }]);

  const check = { userId: 'alice', modelId: 'gpt-4' };
  await expect.poll(async () => (await server.peek(check)).policyId).toBe('slots');
  await page.goto(server.page());
  await press(page, 'Check');
  await expect(page.getByText('5 leases at a time for each user')).toBeVisible();
  await expect(page.getByText('only limits of leases apply to this check')).toBeVisible();
  await expect(page.getByRole('region', { name: 'Limits', exact: true })).toContainText('0 of 5 leases');
});

test('a hot limit is split: the part is typed in percent, and is refused where it cannot be', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('policies');
  await press(page, 'New policy');
  await field(page, 'ID').fill('hot');
  await field(page, 'Limit').fill('90000');
  await field(page, 'Parts taken ahead, %').fill('70');
  await press(page, 'Create policy');
  await expect(field(page, 'Parts taken ahead, %')).toHaveAttribute('aria-invalid', 'true');
  await field(page, 'Parts taken ahead, %').fill('7');
  await expect(words(page)).toContainText('each server takes up to 7 % of what is left ahead of time');
  await press(page, 'Create policy');
  await expect(dialog(page)).toBeHidden();
  expect((await kept(server))[0]).toMatchObject({ id: 'hot', split: { share: 0.07 } });
});

test('what is wrong is told while one types, in plain words', async ({ page, server, openSignedIn }) => {
  await openSignedIn('policies?new=1');
  const cases: [label: string, typed: string, says: string, mended: string][] = [
    ['ID', 'i'.repeat(300), 'Too long: 300 bytes, at most 256.', 'good'],
    ['Limit', '-1', 'Enter 0 or more.', '5'],
    ['Limit', 'many', 'Enter a whole number.', '5'],
    ['Window', '0', 'Enter a window of 0.001 seconds to 366 days.', '1'],
    ['Unit', 'Tok', 'Use lower-case letters, digits and _, starting with a letter.', 'tokens'],
    ['Share of batch, %', '120', 'Enter a percentage from 0 to 100.', '50'],
  ];
  for (const [label, typed, says, mended] of cases) {
    await field(page, label).fill(typed);
    await expect(field(page, label)).toHaveAccessibleDescription(says);
    await expect(field(page, label)).toHaveAttribute('aria-invalid', 'true');
    await field(page, label).fill(mended);
    await expect(field(page, label)).not.toHaveAttribute('aria-invalid', 'true');
  }
  expect(await kept(server)).toEqual([]);
});

test('a policy is changed', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: [PER_USER] });
  await openSignedIn('policies');
  await page.getByRole('link', { name: 'per-user' }).click();
  await expect(page).toHaveURL(server.page('policies?open=per-user'));
  await expect(dialog(page).getByRole('heading', { name: 'Policy per-user' })).toBeVisible();
  await expect(field(page, 'ID')).toBeDisabled();
  await field(page, 'Limit').fill('30');
  await field(page, 'Mode').selectOption('shadow: only report');
  await expect(words(page)).toContainText('each user: 30 requests a minute');
  await press(page, 'Save');
  await expectSaid(page, 'Saved policy per-user');
  await expect(rows(page)).toHaveText([/30 requests a minute.*shadow/u]);
  await expect(page).toHaveURL(server.page('policies'));
  expect(await kept(server)).toEqual([{ ...PER_USER, limit: 30, mode: 'shadow' }]);
});

test('what was typed is not lost without a question', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: [PER_USER] });
  await openSignedIn('live');
  await page.getByRole('navigation').getByRole('link', { name: 'Policies' }).click();
  await page.getByRole('link', { name: 'per-user' }).click();
  const question = page.getByRole('dialog', { name: 'Discard your changes?' });
  await field(page, 'Limit').fill('30');
  await page.keyboard.press('Escape');
  await question.getByRole('button', { name: 'Cancel' }).click();
  await expect(question).toBeHidden();
  await expect(field(page, 'Limit')).toHaveValue('30');
  await page.goBack();
  await question.getByRole('button', { name: 'Discard' }).click();
  await expect(dialog(page)).toHaveCount(0);
  expect(await kept(server)).toEqual([PER_USER]);
});

test('a policy is deleted after a question', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: [PER_USER, PAYMENTS] });
  await openSignedIn('policies?open=per-user');
  const question = page.getByRole('dialog', { name: 'Delete policy per-user?' });
  await press(page, 'Delete');
  await question.getByRole('button', { name: 'Cancel' }).click();
  await expect(question).toBeHidden();
  expect(await kept(server)).toHaveLength(2);
  await press(page, 'Delete');
  await question.getByRole('button', { name: 'Delete' }).click();
  await expectSaid(page, 'Deleted policy per-user');
  await expect(rows(page)).toHaveText([/^payments/u]);
  expect(await kept(server)).toEqual([PAYMENTS]);
});

test.describe('of two who change one policy, the second sees both versions', () => {
  test('in two tabs, and overwrites', async ({ page, context, server, openSignedIn }) => {
    await server.fill({ policies: [PER_USER] });
    const other = await context.newPage();
    await openSignedIn('policies?open=per-user');
    await openSignedIn('policies?open=per-user', { tab: other });
    await field(page, 'Limit').fill('30');
    await field(other, 'Limit').fill('25');
    await press(other, 'Save');
    await expectSaid(other, 'Saved policy per-user');
    await press(page, 'Save');
    await expect(dialog(page)).toContainText('Someone changed this policy while you edited it.');
    const versions = dialog(page).getByRole('table', { name: 'Their version and yours' });
    await expect(versions.getByRole('row')).toHaveText([
      'FieldCurrent versionYour version',
      /^limit.*25.*30$/u,
    ]);
    expect(await kept(server)).toEqual([{ ...PER_USER, limit: 25 }]);
    await press(page, 'Overwrite with my version');
    await expectSaid(page, 'Saved policy per-user');
    expect(await kept(server)).toEqual([{ ...PER_USER, limit: 30 }]);
  });

  test.beforeEach(async ({ server }) => server.fill({ policies: [PER_USER] }));

  test('and takes the other one', async ({ page, server, openSignedIn }) => {
    await openSignedIn('policies?open=per-user');
    await field(page, 'Limit').fill('30');
    await changeElsewhere(server);
    await press(page, 'Save');
    await press(page, 'Discard my changes');
    await expect(field(page, 'Limit')).toHaveValue('25');
    await page.keyboard.press('Escape');
    await expect(dialog(page)).toHaveCount(0);
    expect(await kept(server)).toEqual([{ ...PER_USER, limit: 25 }]);
  });

  test('and goes on editing', async ({ page, server, openSignedIn }) => {
    await openSignedIn('policies?open=per-user');
    await field(page, 'Limit').fill('30');
    await changeElsewhere(server);
    await press(page, 'Save');
    await press(page, 'Continue editing');
    await expect(field(page, 'Limit')).toHaveValue('30');
    await field(page, 'Limit').fill('35');
    await press(page, 'Save');
    await expectSaid(page, 'Saved policy per-user');
    expect(await kept(server)).toEqual([{ ...PER_USER, limit: 35 }]);
  });

  test('and makes it anew where the first deleted it', async ({ page, server, openSignedIn }) => {
    await openSignedIn('policies?open=per-user');
    await field(page, 'Limit').fill('30');
    await server.admin('policies/per-user', { method: 'DELETE' });
    await press(page, 'Save');
    await expect(dialog(page)).toContainText('Someone deleted this policy while you edited it.');
    await press(page, 'Create it again');
    await expectSaid(page, 'Saved policy per-user');
    expect(await kept(server)).toEqual([{ ...PER_USER, limit: 30 }]);
  });
});

test('who may only look sees everything and is offered no change', async ({ page, server, openSignedIn }) => {
  await server.fill({ policies: [PER_USER] });
  await openSignedIn('policies', { token: server.readToken });
  await expect(page.getByText('You have read-only access.')).toBeVisible();
  await expect(page.getByRole('button', { name: 'New policy' })).toBeDisabled();
  await page.getByRole('link', { name: 'per-user' }).click();
  await expect(words(page)).toContainText('each user: 20 requests a minute');
  await expect(field(page, 'Limit')).toHaveValue('20');
  for (const label of ['ID', 'Counts for', 'Limit', 'Unit', 'Window', 'Algorithm', 'Mode', 'Enabled']) {
    await expect(field(page, label)).toBeDisabled();
  }
  for (const name of ['Save', 'Delete', '+ Add a condition']) {
    await expect(dialog(page).getByRole('button', { name, exact: true })).toBeDisabled();
  }
  await dialog(page).getByText('Close', { exact: true }).click();
  await expect(dialog(page)).toHaveCount(0);
});

test('keyboard alone makes a policy', async ({ page, server, openSignedIn }) => {
  await openSignedIn('policies');
  const { keyboard } = page;
  const tabTo = async (name: string | RegExp): Promise<void> => {
    await keyboard.press('Tab');
    await expect(page.locator(':focus')).toHaveAccessibleName(name);
  };
  await page.getByRole('searchbox', { name: 'Search policies' }).focus();
  await tabTo('New policy');
  await keyboard.press('Enter');
  await expect(dialog(page)).toBeVisible();
  await expect(dialog(page)).toBeFocused();
  await tabTo('Close');
  await tabTo('ID');
  await keyboard.type('by-hand');
  await tabTo('Counts for');
  await keyboard.type('each IP');
  await tabTo('IPv6 prefix');
  await tabTo('+ Add a condition');
  await keyboard.press('Enter');
  await expect(page.locator(':focus')).toHaveAccessibleName('Attribute');
  await keyboard.type('tenant');
  await tabTo('Condition');
  await tabTo('is one of');
  await keyboard.type('acme');
  await keyboard.press('Enter');
  await keyboard.type('umbrella');
  await keyboard.press('Enter');
  await expect(dialog(page).getByRole('list', { name: 'is one of, chosen' })).toContainText('umbrella');
  await keyboard.press('Backspace');
  await expect(dialog(page).getByRole('list', { name: 'is one of, chosen' })).not.toContainText('umbrella');
  await tabTo('Remove condition 1');
  await tabTo('+ Add a condition');
  await tabTo('Ignore upper and lower case');
  await tabTo('How much');
  await tabTo('Limit');
  await keyboard.type('12');
  await keyboard.press('Enter');
  await expectSaid(page, 'Saved policy by-hand');
  await expect(dialog(page)).toHaveCount(0);
  expect(await kept(server)).toEqual([
    { id: 'by-hand', scope: 'IP', match: { tenant: 'acme' }, limit: 12, windowSeconds: 60 },
  ]);
});

test.describe('10,000 policies', () => {
  const COUNT = 10_000;
  const PAGE = 500;
  /** Far more than can be seen at once, far fewer than there are. */
  const MAX_DRAWN = 100;
  const id = (index: number): string => `p-${String(index).padStart(5, '0')}`;

  test.beforeEach(async ({ server }) => {
    const policies = Array.from({ length: COUNT }, (_, index) => ({
      ...PER_USER,
      id: id(index),
      match: { user: `user-${String(index)}` },
    }));
    await server.fill({ policies });
  });

  test('are walked through to the last', async ({ page, openSignedIn }) => {
    await openSignedIn('policies');
    const list = page.getByRole('region', { name: 'policies' });
    for (let read = PAGE; read < COUNT; read += PAGE) {
      await expect(
        page.getByText(`The first ${read.toLocaleString('en-US')} policies`, { exact: true }),
      ).toBeVisible();
      await list.press('End');
    }
    await expect(page.getByText('All 10,000 policies')).toBeVisible();
    await list.press('End');
    await expect(page.getByRole('link', { name: id(COUNT - 1) })).toBeInViewport();
    expect(await rows(page).count()).toBeLessThan(MAX_DRAWN);
    await expect(table(page)).toHaveAttribute('aria-rowcount', String(COUNT + 1));
    await list.press('Home');
    await expect(page.getByRole('link', { name: id(0) })).toBeInViewport();
  });

  test('are searched through, and the last one is changed', async ({ page, server, openSignedIn }) => {
    await openSignedIn('policies');
    await page.getByRole('searchbox', { name: 'Search policies' }).fill('user-9999');
    await expect(page.getByText('1 found in all 10,000 policies')).toBeVisible();
    await rows(page)
      .getByRole('link', { name: id(COUNT - 1) })
      .click();
    await field(page, 'Limit').fill('7');
    await press(page, 'Save');
    await expectSaid(page, `Saved policy ${id(COUNT - 1)}`);
    await expect(rows(page)).toHaveText([/7 requests a minute/u]);
    expect(await server.admin(`policies/${id(COUNT - 1)}`)).toMatchObject({ limit: 7 });
  });
});
