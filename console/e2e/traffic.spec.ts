/** The page Traffic over a gateway in front of a model server that this test holds in its hands. */
import AxeBuilder from '@axe-core/playwright';
import { createServer, type ServerResponse } from 'node:http';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, test as base } from './fixtures';

/** A model server whose answers stay open until the test goes on with them. */
interface Model {
  port: number;
  answers: ServerResponse[];
}

const test = base.extend<{ model: Model }>({
  // eslint-disable-next-line no-empty-pattern -- Playwright reads what a fixture needs from this pattern
  model: async ({}, provide) => {
    const answers: ServerResponse[] = [];
    const server = createServer((request, response) => {
      request.resume();
      answers.push(response);
    });
    await new Promise<void>((listens) => server.listen(0, '127.0.0.1', listens));
    const { port } = server.address() as AddressInfo;
    await provide({ port, answers });
    server.closeAllConnections();
    server.close();
  },
  flags: async ({ model }, provide) => {
    const directory = await mkdtemp(join(tmpdir(), 'tollgate-gateway-'));
    const file = join(directory, 'gateway.yaml');
    const upstream = `{id: vllm-a, baseUrl: 'http://127.0.0.1:${model.port}/v1', dialect: openai, maxConcurrency: 2}`;
    await writeFile(
      file,
      `listen: 127.0.0.1:0\nupstreams: [${upstream}]\nmodels: [{id: gpt-4, upstreams: [vllm-a]}]\n`,
    );
    await provide(['--gateway', file]);
    await rm(directory, { recursive: true });
  },
});

function event(text: string): string {
  return `data: {"choices":[{"index":0,"delta":{"content":"${text}"}}]}\n\n`;
}

test('what passes through the gateway is shown as it passes', async ({
  page,
  server,
  model,
  openSignedIn,
}) => {
  await server.fill({ tenants: [{ id: 'acme' }] });
  const { key } = await server.admin<{ key: string }>('api-keys', {
    method: 'POST',
    body: { id: 'k', tenantId: 'acme' },
  });
  const ask = (name: string): Promise<Response> =>
    fetch(`${server.gatewayUrl}/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: name, stream: true, max_tokens: 500, messages: [] }),
    });
  await openSignedIn('traffic');
  const upstream = page.getByRole('table', { name: 'upstreams' }).getByRole('row').nth(1);
  await expect(upstream).toContainText('vllm-a');
  await expect(upstream).toContainText('Available');
  await expect(upstream).toContainText('0 of 2');
  await expect(page.getByText('No request was denied since the start')).toBeVisible();

  expect((await ask('unknown')).status).toBe(404);
  await expect(page.getByRole('table', { name: 'denials' })).toContainText('The request is invalid');

  const running = [ask('gpt-4'), ask('gpt-4')];
  await expect(upstream).toContainText('2 of 2');
  const waiting = ask('gpt-4');
  const standard = page.getByRole('table', { name: 'queue' }).getByRole('row', { name: /^standard/u });
  await expect(standard).toContainText('1');

  await expect.poll(() => model.answers.length).toBe(2);
  for (const answer of model.answers) {
    answer.writeHead(200, { 'content-type': 'text/event-stream' });
    answer.write(event('one') + event('two'));
  }
  const row = page.getByRole('table', { name: 'models' }).getByRole('row', { name: /gpt-4/u });
  await expect(row).toContainText('4');
  for (const answer of model.answers) answer.end('data: [DONE]\n\n');
  await Promise.all(running.map(async (answer) => (await answer).text()));
  await expect.poll(() => model.answers.length).toBe(3);
  model.answers[2]?.writeHead(400, { 'content-type': 'application/json' }).end('{}');
  expect((await waiting).status).toBe(400);
  await expect(upstream).toContainText('0 of 2');
});

base('without a gateway the page says how to start one', async ({ page, openSignedIn }) => {
  await openSignedIn('traffic');
  await expect(page.getByText('This server has no gateway')).toBeVisible();
  await expect(page.getByText('tollgate serve --gateway gateway.yaml')).toBeVisible();
});

test('with a gateway: axe finds nothing, in light and dark, wide and on a phone', async ({
  page,
  openSignedIn,
}) => {
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  await openSignedIn('traffic');
  await expect(page.getByText('vllm-a')).toBeVisible();
  for (const width of [1_440, 360]) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      await expect(page.locator('html')).toHaveAttribute('data-theme', colorScheme);
      const { violations } = await new AxeBuilder({ page }).setLegacyMode().analyze();
      expect.soft(violations, `${colorScheme}, ${width} px`).toEqual([]);
    }
    const fits = await page.evaluate(
      () => document.documentElement.scrollWidth <= document.documentElement.clientWidth,
    );
    expect.soft(fits, `${width} px`).toBe(true);
  }
});
