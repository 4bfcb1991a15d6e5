/** The application: its providers, and the routes made from the list of pages. */
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { createHashRouter, RouterProvider, type RouteObject } from 'react-router';

import { OfflineError, ProblemError } from '../api/problem';
import { Toasts } from '../ui/Toast';
import { Skeleton } from '../ui/Skeleton';
import { LoadFailure } from './LoadFailure';
import { loadPage } from './loadPage';
import { NotFound } from './NotFound';
import { PageError } from './PageError';
import { PageFrame } from './PageFrame';
import { pages, type PageEntry } from './routes';
import { Shell } from './Shell';
import { SignInPage } from './SignInPage';

/** A refusal stays one however often it is asked for; an absent server may come back. */
function shouldRetry(failures: number, error: Error): boolean {
  if (error instanceof ProblemError) return error.status >= 500 && failures < 2;
  return error instanceof OfflineError && failures < 2;
}

const queryClient = new QueryClient({
  defaultOptions: { queries: { retry: shouldRetry, networkMode: 'always', staleTime: 5_000 } },
});

function routeOf(page: PageEntry): RouteObject {
  const lazy = async (): Promise<{ Component: () => React.JSX.Element }> => {
    const loaded = await loadPage(page);
    // The router never loads a route again after a failure, so return a page that offers to retry.
    if (loaded.error !== null) return { Component: () => <LoadFailure error={loaded.error} /> };
    const { Page } = loaded;
    return {
      Component: () => (
        <PageFrame page={page}>
          <Page />
        </PageFrame>
      ),
    };
  };
  const at = page.path === '' ? { index: true as const } : { path: page.path };
  return { ...at, lazy, errorElement: <PageError /> };
}

const router = createHashRouter([
  {
    element: <Shell />,
    errorElement: <PageError />,
    hydrateFallbackElement: <Skeleton lines={8} label="Loading the page" />,
    children: [
      ...pages.map(routeOf),
      { path: 'sign-in', element: <SignInPage /> },
      { path: '*', element: <NotFound /> },
    ],
  },
]);

export function App(): React.JSX.Element {
  return (
    <QueryClientProvider client={queryClient}>
      <RouterProvider router={router} />
      <Toasts />
    </QueryClientProvider>
  );
}
