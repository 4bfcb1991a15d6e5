/** What is wrong with the server, in words: for the banner on every page, and in short for the badge. */
import type { Readiness } from '../api/health';

export interface Warning {
  /** In two or three words. */
  label: string;
  title: string;
  /** What it means for limits and for changes. */
  detail: string;
}

const OFFLINE: Warning = {
  label: 'Offline',
  title: 'The server is not responding.',
  detail: 'What you see may be out of date. The console reconnects by itself.',
};

const DRAINING: Warning = {
  label: 'Shutting down',
  title: 'This server is shutting down.',
  detail: 'It finishes the requests that it has and accepts no new ones.',
};

const EVICTING: Warning = {
  label: 'Store evicting keys',
  title: 'Redis is evicting keys because it is short of memory.',
  detail: 'Usage is lost, so limits allow more than they should. Give Redis more memory.',
};

/** Every cause but the one above is a kind of failure. */
function storeWarning(cause: string): Warning {
  if (cause === 'evictsKeys') return EVICTING;
  const why = cause === 'unavailable' ? '' : ` (${cause.replaceAll('_', ' ')})`;
  return {
    label: 'Store unavailable',
    title: `The store is unavailable${why}.`,
    detail:
      'Checks that need it are decided by the failure mode (allow, deny or local), and usage is unknown until the store is back.',
  };
}

const CATALOG: Readonly<Record<string, Warning | undefined>> = {
  unavailable: {
    label: 'Catalog unavailable',
    title: 'The catalog is unavailable.',
    detail: 'The last known policies and records stay in force, but changes cannot be saved.',
  },
  changeRefused: {
    label: 'Policies out of date',
    title: 'The latest change of the policies was rejected.',
    detail: 'The version before it stays in force. The log of the server says what is wrong with the change.',
  },
};

type Part = Readiness['parts']['store'];

/** The warning about the catalog; with the server's own words for a cause that this console does not know. */
function catalogWarning({ cause, detail }: Part): Warning {
  return (
    CATALOG[cause ?? ''] ?? { label: 'Catalog degraded', title: 'Catalog degraded.', detail: detail ?? '' }
  );
}

/** Models that the gateway cannot answer for, named as far as there is room. */
function gatewayWarning(models: readonly string[]): Warning {
  const named = models.slice(0, NAMED_MODELS).join(', ');
  const more = models.length > NAMED_MODELS ? ' and others' : '';
  return {
    label: 'Models unavailable',
    title: `No usable upstream for ${named}${more}.`,
    detail:
      'Each of their upstreams fails, or its provider limits requests. Clients get 429 or 503 until one answers again.',
  };
}

const NAMED_MODELS = 5;

/** `readiness` is undefined until the server has answered. */
export function warningsOf(readiness: Readiness | undefined, isOffline: boolean): Warning[] {
  if (isOffline) return [OFFLINE];
  if (readiness === undefined) return [];
  const { store, catalog, gateway } = readiness.parts;
  return [
    ...(readiness.status === 'draining' ? [DRAINING] : []),
    ...(store.status === 'ok' ? [] : [storeWarning(store.cause ?? 'unavailable')]),
    ...(catalog.status === 'ok' ? [] : [catalogWarning(catalog)]),
    ...(gateway == null || gateway.status === 'ok' ? [] : [gatewayWarning(gateway.models ?? [])]),
  ];
}
