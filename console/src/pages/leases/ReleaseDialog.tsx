/** Asks before a lease is released by hand. */
import { ConfirmDialog } from '../../ui/ConfirmDialog';
import { toast } from '../../ui/Toast';
import { givenBackInWords, holderInWords, releaseLease, type LiveLease } from './lease';
import styles from './Leases.module.css';

export interface ReleaseDialogProps {
  lease: LiveLease;
  onClose: () => void;
  /** Called when the lease has ended, by this or otherwise. */
  onChanged: () => void;
}

export function ReleaseDialog({ lease, onClose, onChanged }: ReleaseDialogProps): React.JSX.Element {
  const release = async (): Promise<void> => {
    if (lease.id === null) return;
    try {
      await releaseLease(lease.id);
    } finally {
      onChanged();
    }
    toast(`Released the lease of ${holderInWords(lease)}`);
    onClose();
  };
  return (
    <ConfirmDialog title="Release this lease?" action="Release" onConfirm={release} onClose={onClose}>
      <div className={styles.question}>
        <p>
          The lease of <strong>{holderInWords(lease)}</strong> gives back {givenBackInWords(lease)} at once.
        </p>
        <p>
          Its holder may still be working: it can then neither extend nor settle the lease, so what it uses is
          not charged.
        </p>
      </div>
    </ConfirmDialog>
  );
}
