/** How the pictures of docs/ are made: see screenshots.ts. */
import { defineConfig } from '@playwright/test';

import base from './playwright.config';

export default defineConfig(base, {
  testMatch: 'screenshots.ts',
  workers: 1,
  // Two minutes of traffic, and what starts before and is drawn after it.
  timeout: 240_000,
  globalTimeout: 300_000,
});
