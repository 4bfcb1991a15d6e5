/**
 * Makes the pictures of docs/ while the Azure trace is replayed, 15 times as fast as it was, against a server of its
 * own. The console is the one in dist/, so `npm run build` comes first: `npm run build && npm run screenshots`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';

import { test as base, expect, type Page } from '@playwright/test';
import { preview, type PreviewServer } from 'vite';

import { demoCatalog } from './demo';
import { Server } from './server';

const SPEED = 15;
const SECONDS = 120;
const root = resolve(import.meta.dirname, '..');
const docs = resolve(root, '../docs');
const trace = resolve(root, '../data/azure-llm-inference-2023/AzureLLMInferenceTrace_conv.csv');

const test = base.extend<{ server: Server; site: string }>({
  // eslint-disable-next-line no-empty-pattern -- the shape that Playwright reads dependencies from
  server: async ({}, provide) => {
    const server = await Server.start();
    await server.fill(demoCatalog);
    await provide(server);
    await server.end();
  },
  site: async ({ server }, provide) => {
    const proxy = Object.fromEntries(['/rate-limit', '/admin', '/readyz'].map((path) => [path, server.url]));
    const site: PreviewServer = await preview({
      root,
      logLevel: 'error',
      preview: { host: '127.0.0.1', port: 0, proxy },
    });
    await provide(site.resolvedUrls?.local[0] ?? '');
    await site.close();
  },
});

/** Begins to replay the trace; gives what ends it. */
function replay(server: Server): () => Promise<void> {
  const options = { url: server.url, speed: SPEED, seconds: SECONDS + 60, trace };
  const given = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const child = spawn('node', ['scripts/traffic.js', ...given], { cwd: root, stdio: 'inherit' });
  const ended = once(child, 'exit');
  return async () => {
    expect(child.exitCode, 'the replay goes on').toBeNull();
    child.kill('SIGINT');
    await ended;
  };
}

async function open(page: Page, site: string, server: Server, path: string): Promise<void> {
  await page.goto(`${site}#/sign-in?token=${server.token}`);
  await expect(page.getByRole('heading', { name: 'Live', level: 1 })).toBeVisible();
  await page.goto(`${site}#/${path}`);
}

async function take(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: resolve(docs, `console-${name}.png`) });
}

/** Sends one check a second to a limit of 40 a minute: it is used up, and frees again as each admission leaves. */
async function play(page: Page): Promise<void> {
  await page.getByRole('textbox', { name: 'Checks a second' }).fill('1');
  await page.getByRole('button', { name: 'Keep sending' }).click();
}

test('the pictures of docs/', async ({ context, server, site }) => {
  const endReplay = replay(server);
  const [live, playground, policies, explain] = [
    await context.newPage(),
    await context.newPage(),
    await context.newPage(),
    await context.newPage(),
  ];
  await open(live, site, server, 'live?keysOf=user-tokens');
  await open(playground, site, server, '?user=dana&model=claude-3-opus&tenant=initech');
  await play(playground);
  await open(policies, site, server, 'policies');
  await open(explain, site, server, 'explain?user=user-002&tenant=initech&service=chat&cost=tokens%3D1200');
  await live.waitForTimeout(SECONDS * 1_000);
  await take(live, 'live');
  await take(playground, 'playground');
  await take(policies, 'policies');
  await take(explain, 'explain');
  await endReplay();
});
