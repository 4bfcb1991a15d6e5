import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

/** The server that `npm run dev` talks to. */
const server = process.env.TOLLGATE_URL ?? 'http://127.0.0.1:8000';
const calls = ['/rate-limit', '/admin', '/healthz', '/readyz', '/openapi.json', '/docs', '/redoc'];

export default defineConfig({
  // Relative, so that the console works under any path prefix.
  base: './',
  plugins: [react()],
  build: {
    // `npm run size` reads which chunks a page needs.
    manifest: true,
    // The content security policy allows `data:` for images only.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  server: {
    proxy: Object.fromEntries(calls.map((path) => [path, { target: server }])),
  },
  test: {
    environment: 'jsdom',
    include: ['src/**/*.test.{ts,tsx}'],
    setupFiles: ['./src/test-setup.ts'],
    restoreMocks: true,
  },
});
