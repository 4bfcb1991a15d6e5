/** Every page: for everyone (WCAG 2.2 AA, as far as axe sees), on every width, in light and dark, empty and with data. */
import AxeBuilder from '@axe-core/playwright';
import type { Page } from '@playwright/test';

import { expect, test, type Fixtures } from './fixtures';
import type { Server } from './server';

const THEMES = ['light', 'dark'] as const;
const WIDTHS_PX = [1_440, 360] as const;
const HEIGHT_PX = 900;

/** What one sees, and how one gets there. */
interface View {
  name: string;
  /** None for a page that works without a token. */
  path?: string;
  isFilled?: boolean;
  show: (page: Page, server: Server) => Promise<void>;
}

const LONG = 'a-name-that-is-longer-than-any-column-has-room-for-'.repeat(3);

async function fill(server: Server): Promise<void> {
  await server.fill({
    policies: [
      { id: 'each-user', scope: 'USER', limit: 2, windowSeconds: 3_600 },
      { id: LONG, scope: 'TENANT', match: { service: LONG }, limit: 5, windowSeconds: 60, mode: 'shadow' },
      { id: 'banned', scope: 'USER', match: { user: 'mallory' }, limit: 0, windowSeconds: 60 },
      { id: 'off', scope: 'MODEL', limit: null, windowSeconds: 60, enabled: false },
      { id: 'of-pro', scope: 'USER', match: { tier: 'pro', ip: '203.0.113.7' }, limit: 2, windowSeconds: 60 },
    ],
    tiers: [{ id: 'pro', priority: 'premium', name: LONG }],
    modelTiers: [{ id: 'small' }, { id: LONG }],
    tenants: [{ id: LONG, tier: 'pro' }, { id: 'acme' }],
    users: [
      { id: 'alice', tenantId: LONG, name: LONG },
      { id: 'bob', tenantId: 'acme' },
    ],
    models: [
      { id: 'mini', modelTier: 'small' },
      { id: 'large', modelTier: LONG },
    ],
  });
}

async function send(server: Server): Promise<void> {
  for (const userId of ['alice', 'alice', 'alice', LONG]) {
    await server.check({ userId, modelId: 'gpt-4', tenantId: 'acme', service: 'payments' });
  }
}

async function check(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Check', exact: true }).click();
}

/** Makes two API keys, since an import has none; the second has expired. */
async function makeKeys(server: Server): Promise<void> {
  const keys = [
    { id: 'ci', tenantId: LONG },
    { id: 'old', tenantId: 'acme', expiresAt: '2020-01-01T00:00:00Z', revoked: true },
  ];
  for (const body of keys) await server.admin('api-keys', { method: 'POST', body });
}

async function showLease(page: Page, server: Server): Promise<void> {
  const cost = { tokens: 1_200 };
  const id = await server.reserve({ userId: LONG, modelId: 'gpt-4', cost, ttlMs: 600_000 });
  await server.observe(id, { tokens: 300 });
  await page.getByRole('button', { name: 'Refresh' }).click();
  await expect(page.getByRole('table', { name: 'live leases' })).toContainText(LONG);
}

/** Each kind of the directory: in words, what an empty list says, and what a full one does. */
const KINDS = [
  { kind: 'tenants', empty: 'There are no tenants yet', filled: 'All 2 tenants' },
  { kind: 'users', empty: 'There are no users yet', filled: 'All 2 users' },
  { kind: 'api-keys', empty: 'There are no API keys yet', filled: 'All 2 API keys' },
  { kind: 'tiers', empty: 'When there is not enough for everyone', filled: 'All 2 tiers' },
  { kind: 'models', empty: 'There are no models yet', filled: 'All 2 models' },
  { kind: 'model-tiers', empty: 'There are no model tiers yet', filled: 'All 2 model tiers' },
] as const;

const DIRECTORY_VIEWS: readonly View[] = KINDS.flatMap(({ kind, empty, filled }) => [
  {
    name: `the directory of ${kind}`,
    // There is always a tier.
    path: kind === 'tiers' ? 'directory/tiers?new=1' : `directory/${kind}`,
    show: (page: Page) => expect(page.getByText(empty)).toBeVisible(),
  },
  {
    name: `the directory of ${kind} with records`,
    path: 'sign-in',
    isFilled: true,
    show: async (page: Page, server: Server) => {
      if (kind === 'api-keys') await makeKeys(server);
      await page.goto(server.page(`directory/${kind}`));
      await expect(page.getByText(filled)).toBeVisible();
    },
  },
]);

const VIEWS: readonly View[] = [
  {
    name: 'the playground',
    show: (page) => expect(page.getByText('Would this request be allowed now?')).toBeVisible(),
  },
  {
    name: 'the playground with a denial',
    isFilled: true,
    show: async (page, server) => {
      await send(server);
      await page.getByText('Tenant, API key, service, IP, attributes, cost').click();
      await page.getByRole('button', { name: '+ Add a cost' }).click();
      await page.getByRole('textbox', { name: 'Amount' }).fill('1.5');
      await check(page);
      await page.getByRole('button', { name: 'Remove cost 1' }).click();
      await page.getByRole('textbox', { name: 'Tenant' }).fill('t'.repeat(300));
      await check(page);
      await expect(page.getByRole('textbox', { name: 'Tenant' })).toHaveAttribute('aria-invalid', 'true');
      await page.getByRole('textbox', { name: 'Tenant' }).fill(LONG);
      await page.getByRole('button', { name: 'Send 20' }).click();
      await expect(page.getByText('DENIED', { exact: true })).toBeVisible();
      await page.getByRole('slider').press('End');
    },
  },
  {
    name: 'sign-in',
    show: async (page, server) => {
      await page.goto(server.page('sign-in'));
      await page.getByRole('button', { name: 'Sign in' }).click();
      await expect(page.getByText('Enter the token.')).toBeVisible();
    },
  },
  {
    name: 'an address without a page',
    path: 'nowhere',
    show: (page) => expect(page.getByText('Page not found')).toBeVisible(),
  },
  {
    name: 'Live',
    path: 'live',
    show: async (page) => {
      await expect(page.getByText('No decisions yet')).toBeVisible();
      await expect(page.getByText('No key was used recently')).toBeVisible();
      await expect(page.getByText('Keys held').first()).toBeVisible();
    },
  },
  {
    name: 'Live with decisions',
    path: 'live',
    isFilled: true,
    show: async (page, server) => {
      await expect(page.getByRole('status', { name: 'Stream of decisions' })).toHaveText('Connected');
      await send(server);
      await expect(page.getByRole('row', { name: /Denied.*alice/u })).toBeVisible();
      await expect(page.getByRole('region', { name: 'Top keys' }).getByRole('listitem')).toHaveCount(2);
      await page.getByRole('button', { name: 'Pause' }).click();
      await page.getByText('The last 15 minutes as a table').click();
    },
  },
  {
    name: 'Live without its server',
    path: 'live',
    show: async (page, server) => {
      await expect(page.getByText('No decisions yet')).toBeVisible();
      await server.kill();
      await expect(page.getByRole('status', { name: 'Stream of decisions' })).toHaveText('Disconnected');
      await expect(page.getByRole('status', { name: 'Health of the server' })).toContainText('Offline');
    },
  },
  {
    name: 'Leases',
    path: 'leases',
    show: (page) => expect(page.getByText('There are no live leases')).toBeVisible(),
  },
  {
    name: 'Leases with a lease',
    path: 'leases',
    isFilled: true,
    show: async (page, server) => showLease(page, server),
  },
  {
    name: 'the release of a lease',
    path: 'leases',
    isFilled: true,
    show: async (page, server) => {
      await showLease(page, server);
      await page.getByRole('button', { name: /^Release the lease/u }).click();
      await expect(page.getByRole('dialog')).toContainText('gives back');
    },
  },
  {
    name: 'Traffic without a gateway',
    path: 'traffic',
    show: (page) => expect(page.getByText('This server has no gateway')).toBeVisible(),
  },
  {
    name: 'What if',
    path: 'what-if',
    show: (page) => expect(page.getByRole('button', { name: 'Insert the policies in force' })).toBeVisible(),
  },
  {
    name: 'What if with a comparison',
    path: 'what-if',
    show: async (page) => {
      await page.getByLabel('Traffic').selectOption('file');
      const rows = ['timestamp,userId,modelId', '0,ann,m', '1,ann,m'];
      const buffer = Buffer.from(`${rows.join('\n')}\n`);
      await page
        .getByLabel('Trace, in CSV')
        .setInputFiles({ name: 'trace.csv', mimeType: 'text/csv', buffer });
      await page
        .getByLabel('Policies in place')
        .fill('policies: [{id: one, scope: USER, limit: 1, window: 1m}]');
      await page.getByRole('button', { name: 'Compare' }).click();
      await expect(page.getByText('denied by one with the other policies')).toBeVisible();
      await page.getByText('Over time as a table').click();
    },
  },
  {
    name: 'Policies',
    path: 'policies',
    show: (page) => expect(page.getByText('built-in', { exact: true })).toBeVisible(),
  },
  {
    name: 'Policies with policies',
    path: 'policies',
    isFilled: true,
    show: (page) => expect(page.getByText('All 6 policies')).toBeVisible(),
  },
  {
    name: 'a new policy with mistakes',
    path: 'policies?new=1',
    show: async (page) => {
      await page.getByRole('button', { name: '+ Add a condition' }).click();
      await page.getByLabel('is one of').fill(LONG);
      await page.getByLabel('is one of').press('Enter');
      await page.getByRole('button', { name: 'Create policy' }).click();
      await expect(page.getByText('Not saved:')).toBeVisible();
    },
  },
  {
    name: 'a policy with a conflict',
    path: 'policies?open=each-user',
    isFilled: true,
    show: async (page, server) => {
      await page.getByLabel('Limit', { exact: true }).fill('30');
      const body = {
        id: 'each-user',
        scope: 'TENANT',
        match: { service: LONG },
        limit: 3,
        windowSeconds: 3_600,
      };
      await server.admin('policies/each-user', { method: 'PUT', body });
      await page.getByRole('button', { name: 'Save' }).click();
      await expect(page.getByText('Someone changed this policy')).toBeVisible();
    },
  },
  ...DIRECTORY_VIEWS,
  {
    name: 'the secret of an API key',
    path: 'directory/api-keys?new=1',
    isFilled: true,
    show: async (page) => {
      await page.getByRole('dialog').getByLabel('Tenant', { exact: true }).fill('acme');
      await page.getByRole('button', { name: 'Create API key' }).click();
      await expect(page.getByText('it is shown only once')).toBeVisible();
    },
  },
  {
    name: 'Explain',
    path: 'explain?user=&model=',
    show: (page) => expect(page.getByText('Enter a check')).toBeVisible(),
  },
  {
    name: 'Explain with every kind of policy',
    path: 'explain?user=alice&model=mini&ip=203.0.113.7',
    isFilled: true,
    show: async (page) => {
      await expect(page.getByRole('region', { name: 'Verdict' })).toContainText('would be allowed');
      await page.getByRole('heading', { name: /^Do not apply/u }).click();
      await page.getByRole('heading', { name: /^Disabled/u }).click();
    },
  },
  {
    name: 'the audit log',
    path: 'audit',
    show: (page) => expect(page.getByText('There are no changes yet')).toBeVisible(),
  },
  {
    name: 'the audit log with changes',
    path: 'audit',
    isFilled: true,
    show: (page) => expect(page.getByText('All 14 changes')).toBeVisible(),
  },
  {
    name: 'a change in the audit log',
    path: `audit?kind=user&id=alice`,
    isFilled: true,
    show: async (page) => {
      await page.getByRole('table', { name: 'changes' }).getByRole('link').first().click();
      await expect(page.getByText('has not changed')).toBeVisible();
    },
  },
];

async function open(
  view: View,
  page: Page,
  { server, openSignedIn }: Pick<Fixtures, 'server' | 'openSignedIn'>,
) {
  if (view.isFilled === true) await fill(server);
  if (view.path === undefined) await page.goto(server.page());
  else await openSignedIn(view.path);
  await view.show(page, server);
}

/** What does not fit into the page's width, which then has to be scrolled sideways. */
function overflowing(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const all = [...document.querySelectorAll('body *')];
    return all
      .filter((element) => element.getBoundingClientRect().right > clientWidth)
      .map((element) => element.outerHTML.slice(0, 120));
  });
}

async function violations(page: Page): Promise<string[]> {
  // Without a page of its own for the outcome, since there are no frames: that is a third of the time.
  const { violations: found } = await new AxeBuilder({ page }).setLegacyMode().analyze();
  return found.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary ?? ''}`),
  );
}

for (const view of VIEWS) {
  test(`${view.name}: axe finds nothing, in light and dark, wide and narrow`, async ({
    page,
    server,
    openSignedIn,
  }) => {
    await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
    await open(view, page, { server, openSignedIn });
    for (const width of WIDTHS_PX) {
      await page.setViewportSize({ width, height: HEIGHT_PX });
      for (const colorScheme of THEMES) {
        await page.emulateMedia({ colorScheme });
        await expect(page.locator('html')).toHaveAttribute('data-theme', colorScheme);
        expect.soft(await violations(page), `${colorScheme}, ${width} px`).toEqual([]);
      }
      expect.soft(await overflowing(page), `${width} px`).toEqual([]);
    }
  });
}

test('the content security policy allows nothing but the server itself', async ({ page, server }) => {
  const answer = await page.goto(server.page());
  const policy = answer?.headers()['content-security-policy'] ?? '';
  expect(policy.split('; ')).toEqual(
    expect.arrayContaining([
      "default-src 'self'",
      "object-src 'none'",
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ]),
  );
  expect(policy).not.toMatch(/unsafe|https?:|\*/u);
  expect(answer?.headers()['x-content-type-options']).toBe('nosniff');
});

test('what breaks the content security policy fails a test', async ({ page, server, faults }) => {
  await page.goto(server.page());
  await page.evaluate(() => {
    const style = document.createElement('style');
    style.textContent = 'body { color: red }';
    document.head.append(style);
  });
  await expect.poll(() => faults.join('\n')).toContain('securitypolicyviolation: style-src-elem');
  faults.length = 0;
});

test('the theme follows the system until one is chosen, which all tabs then have', async ({
  page,
  context,
  server,
}) => {
  const root = page.locator('html');
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.goto(server.page());
  await expect(root).toHaveAttribute('data-theme', 'dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await expect(root).toHaveAttribute('data-theme', 'light');
  const other = await context.newPage();
  await other.goto(server.page('sign-in'));
  await page.getByLabel('Theme').selectOption('Dark theme');
  await expect(root).toHaveAttribute('data-theme', 'dark');
  await expect(other.locator('html')).toHaveAttribute('data-theme', 'dark');
  await page.reload();
  await expect(root).toHaveAttribute('data-theme', 'dark');
});

/** How often the timeline moves in 2 seconds, told by a clock that only this test turns. */
async function movesOf(page: Page): Promise<number> {
  await check(page);
  await expect(page.getByText('ALLOWED', { exact: true })).toBeVisible();
  await page.clock.pauseAt((await page.evaluate(() => Date.now())) + 1_000);
  const places: (string | null)[] = [];
  for (let step = 0; step < 20; step += 1) {
    await page.clock.runFor(100);
    places.push(await page.locator('g[transform]').getAttribute('transform'));
  }
  await page.clock.resume();
  return new Set(places).size - 1;
}

test('who asked for reduced motion gets it', async ({ page, server }) => {
  await server.fill({ policies: [{ id: 'each-user', scope: 'USER', limit: 9, windowSeconds: 60 }] });
  await page.clock.install();
  await page.emulateMedia({ reducedMotion: 'no-preference' });
  await page.goto(server.page());
  expect(await movesOf(page)).toBeGreaterThan(15);
  await page.emulateMedia({ reducedMotion: 'reduce' });
  expect(await movesOf(page)).toBeLessThanOrEqual(2);
  const durations = await page.evaluate(() =>
    [...document.querySelectorAll('*')].flatMap((element) => {
      const { transitionDuration, animationName, animationDuration } = getComputedStyle(element);
      return [...transitionDuration.split(', '), ...(animationName === 'none' ? [] : [animationDuration])];
    }),
  );
  expect([...new Set(durations)]).toEqual(['0s']);
});

test('another page begins at its top, and one that was left where it was', async ({ page, openSignedIn }) => {
  await page.setViewportSize({ width: 360, height: 640 });
  await openSignedIn('?user=alice&model=gpt-4');
  const scrolled = (): Promise<number> => page.evaluate(() => window.scrollY);
  await page.getByRole('button', { name: 'Keep sending' }).scrollIntoViewIfNeeded();
  await page.evaluate(() => window.scrollTo(0, 200));
  await expect.poll(scrolled).toBe(200);
  // Not `click`, which would first scroll up to the link: the header of a narrow page scrolls with it.
  await page
    .getByRole('navigation', { name: 'Pages' })
    .getByRole('link', { name: 'Policies' })
    .dispatchEvent('click');
  await expect(page.getByRole('heading', { name: 'Policies', level: 1 })).toBeVisible();
  await expect.poll(scrolled).toBe(0);
  await page.goBack();
  await expect.poll(scrolled).toBe(200);
});
