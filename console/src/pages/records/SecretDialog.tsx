/** The secret of a new API key, which the server shows this once. */
import { Button } from '../../ui/Button';
import { CopyButton } from '../../ui/CopyButton';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { Notice } from '../../ui/Notice';
import styles from './Records.module.css';

export interface Secret {
  id: string;
  key: string;
}

export function SecretDialog({
  secret,
  onClose,
}: {
  secret: Secret;
  onClose: () => void;
}): React.JSX.Element {
  return (
    <Dialog title={`The secret of API key ${secret.id}`} isOpen onClose={onClose}>
      <div className={styles.stack}>
        <Notice tone="warn">
          It is shown this once. The server keeps only a hash of it: who loses it needs a new key.
        </Notice>
        <div className={styles.secret}>
          <code>{secret.key}</code>
          <CopyButton text={secret.key} />
        </div>
      </div>
      <DialogActions>
        <Button variant="primary" onPress={onClose}>
          I have kept it
        </Button>
      </DialogActions>
    </Dialog>
  );
}
