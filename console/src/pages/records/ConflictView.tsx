/** Two people changed one record: both versions, and the choice between them. */
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
          ? `Someone deleted this ${one} while you edited it. Your changes are not saved.`
          : `Someone changed this ${one} while you edited it. Your changes are not saved.`}
      </Notice>
      {theirs !== null && (
        <FieldDiff
          label="Their version and yours"
          beforeLabel="Current version"
          afterLabel="Your version"
          before={theirs.record}
          after={mine}
          words={{ added: 'only in yours', removed: 'only in theirs', changed: 'different' }}
        />
      )}
      {error !== null && <ErrorState error={error} />}
      <DialogActions>
        <Button onPress={onTakeTheirs}>{theirs === null ? 'Keep it deleted' : 'Discard my changes'}</Button>
        {theirs !== null && <Button onPress={onGoOn}>Continue editing</Button>}
        <Button variant="danger" onPress={onOverwrite}>
          {theirs === null ? 'Create it again' : 'Overwrite with my version'}
        </Button>
      </DialogActions>
    </div>
  );
}
