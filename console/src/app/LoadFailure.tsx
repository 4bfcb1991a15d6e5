/** In place of a page whose code could not be loaded. Reloads by itself once a server that was gone is back. */
import { useEffect, useState } from 'react';

import { useHealth } from '../api/health';
import { OfflineError } from '../api/problem';
import { ErrorState } from '../ui/ErrorState';

/** Loading everything again also finds the pages of a server that was replaced by another version. */
function reload(): void {
  window.location.reload();
}

export function LoadFailure({ error }: { error: Error }): React.JSX.Element {
  const { isOnline, isOffline, ask } = useHealth();
  const [wasOffline, setWasOffline] = useState(isOffline);
  if (isOffline && !wasOffline) setWasOffline(true);
  // A page that fails to load from a server that is there would only fail again.
  const isBack = wasOffline && isOnline;
  useEffect(() => {
    if (isBack) reload();
  }, [isBack]);
  // To reload while the server is gone would end at an error page of the browser.
  const retry = async (): Promise<void> => {
    if (await ask()) reload();
  };
  return (
    <>
      <h1 className="visually-hidden">Page not loaded</h1>
      <ErrorState
        error={isOffline ? new OfflineError(error) : error}
        title="This page could not be loaded"
        onRetry={() => void retry()}
      />
    </>
  );
}
