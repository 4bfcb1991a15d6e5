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
  await expect(page.getByText('the store did not answer in time')).toBeVisible();
  await expect(page.getByText('nothing was charged to a window')).toBeVisible();
  await expect(page.getByRole('status', { name: 'Health of the server' })).toContainText('Degraded: store');
});

test('Live counts what is decided without the store, and shades the time', async ({
  page,
  server,
  openSignedIn,
}) => {
  await openSignedIn('live');
  await expect(page.getByText('Listening')).toBeVisible();
  await server.check({ userId: 'alice', modelId: 'gpt-4' });
  await expect(page.getByText('without the store').first()).toBeVisible();
  await expect(page.getByText(/^Shaded: store degraded/u)).toBeVisible();
});

test('Explain says that usage is not known', async ({ page, openSignedIn }) => {
  await openSignedIn('explain?user=alice&model=gpt-4');
  await expect(page.getByText('usage is not known, and the failure mode would decide')).toBeVisible();
});
