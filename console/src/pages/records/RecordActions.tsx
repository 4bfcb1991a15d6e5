/** What can be done to a record besides saving it: its quick changes, and to delete it. Each asks first. */
import { useState } from 'react';
import type { FieldValues } from 'react-hook-form';

import type { Access } from '../../api/access';
import { addressOf, type Versioned } from '../../api/admin';
import { ProblemError } from '../../api/problem';
import { deleteRecord, patchRecord } from '../../api/records';
import { Button } from '../../ui/Button';
import { ConfirmDialog } from '../../ui/ConfirmDialog';
import { ErrorState } from '../../ui/ErrorState';
import type { Item, Kind, QuickChange, Related } from './kind';
import styles from './Records.module.css';
import { RelatedLinks } from './RelatedLinks';

export interface RecordActionsProps<Record extends Item, Form extends FieldValues> {
  kind: Kind<Record, Form>;
  loaded: Versioned<Record>;
  access: Access;
  onChanged: (record: Record | null, words: string) => void;
}

const TITLES: Readonly<Record<number, string>> = {
  404: 'Someone else has already deleted it',
  412: 'Someone changed it since you opened it: close it, open it again, and look at the change',
};

/** What uses the record, by the server's words: `user "alice"`; null where they name nothing. */
function userOf(message: string): string | null {
  const [, kind, id] = /, for example by the ([a-zA-Z ]+) ("(?:[^"\\]|\\.)*")/u.exec(message) ?? [];
  return kind === undefined || id === undefined ? null : `${kind} ${id}`;
}

interface ExplainedProps {
  error: unknown;
  /** `tier "pro"`. */
  name: string;
  related: readonly Related[];
}

function Explained({ error, name, related }: ExplainedProps): React.JSX.Element {
  const status = error instanceof ProblemError ? error.status : 0;
  if (status === 409 && error instanceof ProblemError) {
    return (
      <div className={styles.stack}>
        <p className={styles.refused} role="alert">
          Can’t delete {name}: {userOf(error.message) ?? 'another record'} uses it.
        </p>
        {related.length > 0 && <RelatedLinks label="Where it is used" links={related} />}
      </div>
    );
  }
  const title = TITLES[status];
  return <ErrorState error={error} {...(title === undefined ? {} : { title })} />;
}

export function RecordActions<Record extends Item, Form extends FieldValues>(
  props: RecordActionsProps<Record, Form>,
): React.JSX.Element {
  const { kind, loaded, access, onChanged } = props;
  const { record, etag } = loaded;
  const [asked, setAsked] = useState<'delete' | QuickChange<Record> | null>(null);
  const name = `${kind.one} ${record.id}`;
  const remove = async (): Promise<void> => {
    await deleteRecord(kind.kind, addressOf(kind.kind, record), etag);
    onChanged(null, `Deleted ${name}`);
  };
  const apply = async (change: QuickChange<Record>): Promise<void> => {
    const changed = await patchRecord<Record>(kind.kind, addressOf(kind.kind, record), change.patch, etag);
    onChanged(changed.record, `${change.done} ${name}`);
  };
  const offered = (kind.quickChanges ?? []).filter((change) => change.isOffered(record));
  return (
    <div className={styles.actions}>
      <Button variant="danger" isDisabled={!access.canWrite} onPress={() => setAsked('delete')}>
        Delete
      </Button>
      {offered.map((change) => (
        <Button
          key={change.label}
          variant="danger"
          isDisabled={!access.canWrite}
          onPress={() => setAsked(change)}
        >
          {change.label}
        </Button>
      ))}
      {asked !== null && (
        <ConfirmDialog
          title={`${asked === 'delete' ? 'Delete' : asked.label} ${name}?`}
          action={asked === 'delete' ? 'Delete' : asked.label}
          onConfirm={() => (asked === 'delete' ? remove() : apply(asked))}
          onClose={() => setAsked(null)}
          explain={(error) => (
            <Explained
              error={error}
              name={`${kind.one} "${record.id}"`}
              related={kind.related?.(record) ?? []}
            />
          )}
        >
          <p className={styles.consequence}>
            {asked === 'delete'
              ? 'This cannot be undone. The audit log keeps a copy of the record.'
              : asked.consequence}
          </p>
        </ConfirmDialog>
      )}
    </div>
  );
}
