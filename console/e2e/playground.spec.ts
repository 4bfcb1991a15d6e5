/** The playground: one asks, sees the decision and the window that it comes from. */
import { expect, test } from './fixtures';

test('a check is answered without a token, with the limit that decided', async ({ page, server }) => {
  await page.goto(server.page());
  await page.getByRole('button', { name: 'Check', exact: true }).click();
  const decision = page.getByRole('region', { name: 'Decision', exact: true });
  await expect(decision.getByText('ALLOWED', { exact: true })).toBeVisible();
  await expect(decision).toContainText('Policy default: 100 requests in 1 hour for each user and model.');
  await expect(decision).toContainText('Used1 of 100 requests');
  await expect(decision).toContainText('Remaining99');
});
