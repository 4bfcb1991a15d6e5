/** A page whose code cannot be loaded: it says so, and shows itself once the server is back. */
import { expect, test } from './fixtures';

test('a page that cannot be loaded says so, and is there once the server is back', async ({
  page,
  server,
  faults,
}) => {
  await page.goto(server.page());
  await expect(page.getByRole('button', { name: 'Check', exact: true })).toBeVisible();
  await server.kill();
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Explain' }).click();
  const alert = page.getByRole('alert');
  await expect(alert).toContainText('This page could not be loaded');
  await alert.getByRole('button', { name: 'Try again' }).click();
  await expect(alert).toContainText('It may be restarting');
  // Another page that was not loaded yet fails by itself; one that was loaded still works.
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Policies' }).click();
  await expect(alert).toContainText('This page could not be loaded');
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Playground' }).click();
  await expect(page.getByRole('button', { name: 'Check', exact: true })).toBeVisible();
  await page.goBack();
  await expect(alert).toContainText('This page could not be loaded');
  await server.restart();
  await expect(page.getByRole('heading', { name: 'Sign in to open Policies' })).toBeVisible({
    timeout: 15_000,
  });
  // The browser reports the code that it could not load.
  expect(faults.every((fault) => fault.includes('ERR_CONNECTION_REFUSED'))).toBe(true);
  faults.length = 0;
});

test('a page that was opened first and cannot be loaded says so too', async ({ page, server, faults }) => {
  await page.route('**/assets/ExplainPage-*.js', (route) => route.abort());
  await page.goto(server.page('explain'));
  await expect(page.getByRole('alert')).toContainText('This page could not be loaded');
  await page.unroute('**/assets/ExplainPage-*.js');
  await page.getByRole('alert').getByRole('button', { name: 'Try again' }).click();
  await expect(page.getByRole('heading', { name: 'Sign in to open Explain' })).toBeVisible();
  faults.length = 0;
});

test('where not even the first script loads, the page says so and can be loaded again', async ({
  page,
  server,
  faults,
}) => {
  await page.route('**/assets/index-*.js', (route) => route.abort());
  await page.goto(server.page());
  await expect(page.getByText('the server may be unavailable')).toBeVisible();
  await page.unroute('**/assets/index-*.js');
  await page.getByRole('link', { name: 'Try again' }).click();
  await expect(page.getByRole('button', { name: 'Check', exact: true })).toBeVisible();
  faults.length = 0;
});
