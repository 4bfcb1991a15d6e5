/** What is shown in place of a page that could not be drawn. */
import { useRouteError } from 'react-router';

import { ErrorState } from '../ui/ErrorState';

export function PageError(): React.JSX.Element {
  const error = useRouteError();
  return <ErrorState error={error} title="This page crashed" onRetry={() => window.location.reload()} />;
}
