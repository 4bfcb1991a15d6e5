/**
 * The one client of the HTTP API. Every call either gives what the schema says or throws a `ProblemError` or an
 * `OfflineError`.
 */
import createClient from 'openapi-fetch';

import { OfflineError, problemOf } from './problem';
import type { paths } from './schema';
import { dropRefused, getSession } from './token';

/** The address below which the API is: the document's own, so that any path prefix works. */
export const apiBase = new URL('.', document.baseURI).href;

/** The address of the call at `path`, which starts with a slash. */
export function apiUrl(path: string): string {
  return apiBase + path.slice(1);
}

function isAdmin(url: string): boolean {
  return url.startsWith(apiUrl('/admin/'));
}

/**
 * `fetch` that bears the session's token where one is needed, unless `request` has another, and throws unless the answer
 * is a success.
 */
export async function send(request: Request): Promise<Response> {
  const { token } = getSession();
  const bearsToken = token !== null && isAdmin(request.url) && !request.headers.has('authorization');
  if (bearsToken) request.headers.set('authorization', `Bearer ${token}`);
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw new OfflineError(error);
  }
  if (response.ok) return response;
  if (response.status === 401 && bearsToken) dropRefused(token);
  throw await problemOf(response);
}

export const client = createClient<paths>({ baseUrl: apiBase, fetch: send });
