/** What the tests have: a server of their own, a page that is watched for faults, and the way to sign in. */
import { test as base, expect, type BrowserContext, type ConsoleMessage, type Page } from '@playwright/test';

import { Server } from './server';

export { expect };

export interface Fixtures {
  /** What the server is started with, beside what all are. */
  flags: readonly string[];
  /** Whether its catalog keeps the built-in policy. */
  keepsBuiltIn: boolean;
  /** Started for this test alone, with an empty catalog. */
  server: Server;
  /** What no page may do, as it happens; none is left at the end of a test. */
  faults: string[];
  /** Opens the console's page at `path`, signed in: with the token that writes, unless another is given. */
  openSignedIn: (path: string, as?: { tab?: Page; token?: string }) => Promise<void>;
}

/** A refusal, or a server that is gone, is what many tests are about; the browser reports each as an error. */
function isFailedCall(message: ConsoleMessage, base: string): boolean {
  const { pathname } = new URL(message.location().url, base);
  return (
    message.text().startsWith('Failed to load resource') && /\/(admin|rate-limit)\/|\/readyz$/u.test(pathname)
  );
}

/** Writes down what goes wrong in any page of `context`. */
async function watch(context: BrowserContext, base: string, faults: string[]): Promise<void> {
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
      console.error(`securitypolicyviolation: ${violatedDirective} ${blockedURI}`),
    );
  });
  context.on('console', (message) => {
    if (message.type() === 'error' && !isFailedCall(message, base)) faults.push(message.text());
  });
  context.on('weberror', (error) => faults.push(String(error.error())));
}

export const test = base.extend<Fixtures>({
  flags: [[], { option: true }],
  keepsBuiltIn: [true, { option: true }],
  server: async ({ flags, keepsBuiltIn }, provide) => {
    const server = await Server.start({ flags, keepsBuiltIn });
    await provide(server);
    await server.end();
  },
  faults: [
    // Looked at before the server ends: a page that then misses it has done nothing wrong.
    async ({ context, server }, provide) => {
      const faults: string[] = [];
      await watch(context, server.url, faults);
      await provide(faults);
      expect(faults, 'no page breaks the content security policy or reports an error').toEqual([]);
    },
    { auto: true },
  ],
  openSignedIn: async ({ server, page }, provide) => {
    await provide(async (path, { tab = page, token = server.token } = {}) => {
      await tab.goto(server.page(`sign-in?token=${token}`));
      // What is drawn says that the page after the sign-in is open; the address changes before it.
      await expect(tab.getByRole('heading', { name: 'Live', level: 1 })).toBeVisible();
      await tab.goto(server.page(path));
    });
  },
});
