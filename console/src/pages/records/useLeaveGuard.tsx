/** Asks before what was typed is lost: by closing, by going back, or with the tab. */
import { useEffect, useRef } from 'react';
import { useBlocker } from 'react-router';

import { ConfirmDialog } from '../../ui/ConfirmDialog';

export interface LeaveGuard {
  /** Says that what was typed is safe, or not wanted, so that nobody is asked. */
  letGo: () => void;
  /** The question, while it is asked. */
  question: React.JSX.Element | null;
}

export function useLeaveGuard(isDirty: boolean): LeaveGuard {
  const isFree = useRef(false);
  const blocker = useBlocker(() => isDirty && !isFree.current);
  useEffect(() => {
    if (!isDirty) return undefined;
    const ask = (event: BeforeUnloadEvent): void => event.preventDefault();
    window.addEventListener('beforeunload', ask);
    return () => window.removeEventListener('beforeunload', ask);
  }, [isDirty]);
  const question =
    blocker.state === 'blocked' ? (
      <ConfirmDialog
        title="Discard your changes?"
        action="Discard"
        onConfirm={blocker.proceed}
        onClose={blocker.reset}
      >
        They are not saved.
      </ConfirmDialog>
    ) : null;
  return {
    letGo: () => {
      isFree.current = true;
    },
    question,
  };
}
