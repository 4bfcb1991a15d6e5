/** Live leases: listed the oldest first with what they use of what they reserve, and released by hand. */
import { expect, test } from './fixtures';
import type { Server } from './server';

const POLICIES = [
  { id: 'slots', scope: 'MODEL', unit: 'concurrency', limit: 3 },
  { id: 'output', scope: 'TENANT', unit: 'output_tokens', limit: 90_000, windowSeconds: 60 },
];

async function post(server: Server, path: string, body: unknown): Promise<Record<string, unknown>> {
  const answer = await fetch(`${server.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  expect(answer.ok).toBe(true);
  return (await answer.json()) as Record<string, unknown>;
}

async function reserve(server: Server, userId: string, tenantId: string, tokens: number): Promise<string> {
  const cost = { output_tokens: tokens };
  const body = { userId, tenantId, modelId: 'gpt-4', ttlMs: 600_000, cost };
  const { lease } = await post(server, '/rate-limit/leases', body);
  return (lease as { id: string }).id;
}

test('live leases are listed and one is released', async ({ page, server, openSignedIn }) => {
  await server.fill({ tenants: [{ id: 'acme' }, { id: 'other' }], policies: POLICIES });
  await openSignedIn('leases');
  await expect(page.getByText('No lease is alive')).toBeVisible();

  const first = await reserve(server, 'alice', 'acme', 800);
  await reserve(server, 'bob', 'other', 500);
  await reserve(server, 'carol', 'acme', 200);
  await post(server, `/rate-limit/leases/${first}/extend`, { seq: 1, observed: { output_tokens: 310 } });
  const rows = page.getByRole('table', { name: 'leases' }).getByRole('row');
  await expect(rows).toHaveCount(4);
  await expect(rows.nth(1)).toContainText('alice, gpt-4');
  await expect(rows.nth(1)).toContainText('310 of 800 output_tokens');
  await expect(rows.nth(3)).toContainText('200 output_tokens');
  await expect(
    page.getByText('3 leases, with 1,500 output_tokens (310 used so far) reserved.'),
  ).toBeVisible();

  await page.getByLabel('Tenant', { exact: true }).fill('acme');
  await expect(rows).toHaveCount(3);
  await expect(page).toHaveURL(/tenant=acme/u);

  await page.getByRole('button', { name: 'Release the lease of alice, gpt-4' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Release', exact: true }).click();
  await expect(page.getByText('The lease of alice, gpt-4 was released')).toBeVisible();
  await expect(rows).toHaveCount(2);
  const again = { userId: 'dave', tenantId: 'acme', modelId: 'gpt-4' };
  const { allowed } = await post(server, '/rate-limit/check', again);
  expect(allowed).toBe(true);

  await page.getByLabel('Tenant', { exact: true }).fill('nobody');
  await expect(page.getByText('No matching leases')).toBeVisible();
});
