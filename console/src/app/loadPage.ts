/** Loads the code of a page, and says so where it cannot. */
import type { ComponentType } from 'react';

import type { PageEntry } from './routes';

/** A server that is gone refuses at once; one that is out of reach does not answer at all. */
const DEADLINE_MS = 15_000;

export type LoadedPage = { Page: ComponentType; error: null } | { error: Error };

function deadline(): Promise<never> {
  return new Promise((_, reject) => {
    window.setTimeout(() => reject(new Error('The server did not send the page in time')), DEADLINE_MS);
  });
}

export async function loadPage(page: PageEntry): Promise<LoadedPage> {
  try {
    const { default: Page } = await Promise.race([page.load(), deadline()]);
    return { Page, error: null };
  } catch (error) {
    return { error: error instanceof Error ? error : new Error(String(error)) };
  }
}
