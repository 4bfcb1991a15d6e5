/** How the end-to-end tests run: in Debian's Chromium, each test with a server of its own. */
import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  outputDir: './results',
  fullyParallel: true,
  workers: 2,
  // A test that passes at the second attempt has found something.
  retries: 0,
  forbidOnly: true,
  reporter: [['line']],
  timeout: 60_000,
  // Above what all of them take on two cores that have much else to do: a run that hangs is a failure.
  globalTimeout: 840_000,
  expect: { timeout: 20_000 },
  use: {
    viewport: { width: 1440, height: 900 },
    locale: 'en-US',
    permissions: ['clipboard-read', 'clipboard-write'],
    // Snapshots of the page tell what happened; a film of it would take a tenth of the time.
    trace: { mode: 'retain-on-failure', screenshots: false },
    launchOptions: { executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium' },
  },
});
