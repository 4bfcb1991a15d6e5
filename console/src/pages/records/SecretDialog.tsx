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
    <Dialog title={`Secret of API key ${secret.id}`} isOpen onClose={onClose}>
      <div className={styles.stack}>
        <Notice tone="warn">
          Copy the secret now: it is shown only once. The server keeps only a hash of it, so a lost key has to
          be replaced.
        </Notice>
        <div className={styles.secret}>
          <code>{secret.key}</code>
          <CopyButton text={secret.key} />
        </div>
      </div>
      <DialogActions>
        <Button variant="primary" onPress={onClose}>
          I have saved it
        </Button>
      </DialogActions>
    </Dialog>
  );
}
