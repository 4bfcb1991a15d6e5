/** Asks before something that cannot be taken back, and stays until it is done. */
import { useState, type ReactNode } from 'react';

import { Button } from './Button';
import { Dialog, DialogActions } from './Dialog';
import { ErrorState } from './ErrorState';

export interface ConfirmDialogProps {
  title: string;
  /** On the button that goes on: the verb. */
  action: string;
  onConfirm: () => Promise<void> | void;
  onClose: () => void;
  /** What is said of an error in place of its own words. */
  explain?: (error: unknown) => ReactNode;
  children: ReactNode;
}

export function ConfirmDialog(props: ConfirmDialogProps): React.JSX.Element {
  const { title, action, onConfirm, onClose, explain, children } = props;
  const [isPending, setPending] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const confirm = async (): Promise<void> => {
    setPending(true);
    setError(null);
    try {
      await onConfirm();
    } catch (refusal) {
      setError(refusal);
      setPending(false);
    }
  };
  return (
    <Dialog title={title} isOpen onClose={onClose}>
      {children}
      {error !== null && (explain?.(error) ?? <ErrorState error={error} />)}
      <DialogActions>
        <Button onPress={onClose}>Cancel</Button>
        <Button variant="danger" isPending={isPending} onPress={() => void confirm()}>
          {action}
        </Button>
      </DialogActions>
    </Dialog>
  );
}
