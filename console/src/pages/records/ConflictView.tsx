/** Two wanted to change one record: both versions, and the choice between them. */
import { Button } from '../../ui/Button';
import { DialogActions } from '../../ui/Dialog';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import { FieldDiff } from './FieldDiff';
import styles from './Records.module.css';
import type { Conflict } from './useSave';

export interface ConflictViewProps {
  /** In a sentence: `policy`. */
  one: string;
  conflict: Conflict<object>;
  error: unknown;
  onTakeTheirs: () => void;
  onOverwrite: () => void;
  onGoOn: () => void;
}

export function ConflictView(props: ConflictViewProps): React.JSX.Element {
  const { one, conflict, error, onTakeTheirs, onOverwrite, onGoOn } = props;
  const { theirs, mine } = conflict;
  return (
    <div className={styles.stack}>
      <Notice tone="warn">
        {theirs === null
          ? `Someone deleted this ${one} while you edited it. Nothing of yours was saved.`
          : `Someone changed this ${one} while you edited it. Nothing of yours was saved.`}
      </Notice>
      {theirs !== null && (
        <FieldDiff
          label="Theirs and yours"
          beforeLabel="Theirs, as it is now"
          afterLabel="Yours"
          before={theirs.record}
          after={mine}
          words={{ added: 'only yours', removed: 'only theirs', changed: 'differs' }}
        />
      )}
      {error !== null && <ErrorState error={error} />}
      <DialogActions>
        <Button onPress={onTakeTheirs}>{theirs === null ? 'Leave it deleted' : 'Take theirs'}</Button>
        {theirs !== null && <Button onPress={onGoOn}>Go on editing yours</Button>}
        <Button variant="danger" onPress={onOverwrite}>
          {theirs === null ? 'Make it anew with yours' : 'Overwrite with yours'}
        </Button>
      </DialogActions>
    </div>
  );
}
