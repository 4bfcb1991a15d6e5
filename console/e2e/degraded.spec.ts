/** A server whose store does not answer: every page says so, and goes on. */
import { expect, test } from './fixtures';

// Nobody listens there.
test.use({ flags: ['--store', 'redis://127.0.0.1:1', '--on-store-error', 'allow'] });

test('the playground shows who decided, and draws no window that it does not know', async ({
  page,
  server,
}) => {
  await page.goto(server.page('?user=alice&model=gpt-4'));
  await page.getByRole('button', { name: 'Check', exact: true }).click();
  await expect(page.getByText('ALLOWED', { exact: true })).toBeVisible();
  await expect(page.getByText('The store is unavailable,', { exact: true })).toBeVisible();
  await expect(page.getByText('the store is unavailable, so nothing was counted')).toBeVisible();
  await expect(page.getByRole('status', { name: 'Health of the server' })).toContainText('Store unavailable');
});

test('Live counts what is decided without the store, and shades the time', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('live');
  await expect(page.getByText('Connected')).toBeVisible();
  await server.check({ userId: 'alice', modelId: 'gpt-4' });
  await expect(page.getByText('without the store').first()).toBeVisible();
  await expect(page.getByText(/^Shaded: store unavailable/u)).toBeVisible();
});

test('every page says so in words', async ({ page, server, openSignedIn }) => {
  const warnings = page.getByRole('status', { name: 'Warnings' });
  await openSignedIn('live');
  await server.check({ userId: 'alice', modelId: 'gpt-4' });
  for (const name of ['Playground', 'Live', 'Leases', 'Explain', 'Policies', 'Directory', 'Audit']) {
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name }).click();
    await expect(page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name })).toHaveAttribute(
      'aria-current',
      'page',
    );
    await expect(warnings).toContainText('The store is unavailable.');
    await expect(warnings).toContainText('decided by the failure mode (allow, deny or local)');
  }
});

test('no usage is told that nobody knows', async ({ page, server, openSignedIn }) => {
  await openSignedIn('live');
  await expect(page.getByText('Connected')).toBeVisible();
  await server.check({ userId: 'alice', modelId: 'gpt-4' });
  await expect(page.getByRole('row', { name: /alice/u })).toContainText('usage unknown');
  const keys = page.getByRole('region', { name: 'Top keys' });
  await expect(keys).toContainText('The store is unavailable, so usage is unknown.');
  await expect(keys).not.toContainText('Usage is exact.');
  await page.goto(server.page('?user=alice&model=gpt-4'));
  await page.getByRole('button', { name: 'Check', exact: true }).click();
  await expect(page.getByRole('region', { name: 'Limits', exact: true })).toContainText(
    'unknown of 100 requests',
  );
});

test('Explain says that usage is unknown', async ({ page, openSignedIn }) => {
  await openSignedIn('explain?user=alice&model=gpt-4');
  await expect(page.getByText('usage is unknown, and the failure mode decides')).toBeVisible();
});
