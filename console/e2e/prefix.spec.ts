/** Behind a reverse proxy that serves the console below a path. */
import { createServer, request, type Server as HttpServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';

import { expect, test } from './fixtures';
import type { Server } from './server';

const PREFIX = '/tools/limits/';

/** Passes on what is below the prefix, without it, and knows nothing else. */
async function proxyTo(server: Server): Promise<HttpServer> {
  const proxy = createServer((incoming, answer) => {
    const url = incoming.url ?? '';
    if (!url.startsWith(PREFIX)) {
      answer.writeHead(404).end();
      return;
    }
    const { method, headers } = incoming;
    const target = server.url + url.slice(PREFIX.length - 1);
    const outgoing = request(target, { method, headers }, (response) => {
      answer.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(answer);
    });
    outgoing.on('error', () => answer.destroy());
    answer.on('close', () => outgoing.destroy());
    incoming.pipe(outgoing);
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return proxy;
}

test('below a path of a reverse proxy, every page works', async ({ page, server }) => {
  const proxy = await proxyTo(server);
  try {
    const { port } = proxy.address() as AddressInfo;
    const console = `http://127.0.0.1:${port}${PREFIX}`;
    const strays: string[] = [];
    page.on('response', (response) => {
      if (!response.url().startsWith(console) || response.status() === 404) strays.push(response.url());
    });

    await page.goto(console);
    await expect(page.getByRole('status', { name: 'Health of the server' })).toHaveText('Ready');
    await page.getByRole('button', { name: 'Check', exact: true }).click();
    await expect(page.getByText('ALLOWED', { exact: true })).toBeVisible();
    await expect(page.getByRole('region', { name: 'curl command' })).toContainText(
      `'${console}rate-limit/check'`,
    );

    await page.goto(`${console}#/sign-in?token=${server.token}`);
    await expect(page.getByRole('heading', { name: 'Live', level: 1 })).toBeVisible();
    await expect(page).toHaveURL(`${console}#/live`);

    await expect(page.getByRole('status', { name: 'Stream of decisions' })).toHaveText('Connected');
    await server.check({ userId: 'alice', modelId: 'gpt-4' });
    await expect(page.getByRole('row', { name: /Allowed.*alice/u })).toBeVisible();

    await page.goto(`${console}#/policies?new=1`);
    await page.getByRole('dialog').getByLabel('ID', { exact: true }).fill('per-user');
    await page.getByRole('dialog').getByLabel('Limit', { exact: true }).fill('5');
    await page.getByRole('button', { name: 'Create policy' }).click();
    await expect(page.getByRole('link', { name: 'per-user' })).toBeVisible();
    await page.reload();
    await expect(page.getByRole('link', { name: 'per-user' })).toBeVisible();
    expect(strays).toEqual([]);
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});
