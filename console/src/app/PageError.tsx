/** What is shown in place of a page that could not be loaded or drawn. */
import { useRouteError } from 'react-router';

import { ErrorState } from '../ui/ErrorState';

export function PageError(): React.JSX.Element {
  const error = useRouteError();
  // A server that was replaced has other chunks than the ones that this page names: loading it anew finds them.
  return (
    <ErrorState error={error} title="This page could not be shown" onRetry={() => window.location.reload()} />
  );
}
