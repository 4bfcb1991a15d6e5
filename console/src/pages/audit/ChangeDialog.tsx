/** One change: what the record was and what it became, and what became of it since. */
import { useQuery } from '@tanstack/react-query';

import { changesLink, RECORD_KINDS, recordLink } from '../../app/links';
import { Badge } from '../../ui/Badge';
import { Button } from '../../ui/Button';
import { Dialog, DialogActions } from '../../ui/Dialog';
import { EmptyState } from '../../ui/EmptyState';
import { ErrorState } from '../../ui/ErrorState';
import { Moment } from '../../ui/Moment';
import { Skeleton } from '../../ui/Skeleton';
import { FieldDiff } from '../records/FieldDiff';
import records from '../records/Records.module.css';
import { RelatedLinks } from '../records/RelatedLinks';
import styles from './Audit.module.css';
import {
  ACTION_WORDS,
  changeNumber,
  getChange,
  KIND_WORDS,
  newestChange,
  sinceThen,
  type Change,
} from './change';

export interface ChangeDialogProps {
  /** As the address has it. */
  number: string;
  onClose: () => void;
}

export function ChangeDialog({ number, onClose }: ChangeDialogProps): React.JSX.Element {
  return (
    <Dialog title={`Change ${number}`} isOpen onClose={onClose} isDismissable size="l">
      <Loaded number={changeNumber(number)} />
      <DialogActions>
        <Button onPress={onClose}>Close</Button>
      </DialogActions>
    </Dialog>
  );
}

function Loaded({ number }: { number: number | null }): React.JSX.Element {
  const query = useQuery({
    queryKey: ['audit', 'change', number],
    queryFn: ({ signal }) => (number === null ? null : getChange(number, signal)),
    // What has happened stays as it is.
    staleTime: Infinity,
  });
  if (query.isPending) return <Skeleton lines={6} label="Loading the change" />;
  if (query.isError) return <ErrorState error={query.error} onRetry={() => void query.refetch()} />;
  if (query.data === null) return <EmptyState title="There is no change with this number" />;
  return <Shown change={query.data} />;
}

function Shown({ change }: { change: Change }): React.JSX.Element {
  const { at, actor, action, kind, recordId, before, after } = change;
  const { word, tone } = ACTION_WORDS[action];
  return (
    <div className={records.stack}>
      <p className={styles.summary}>
        <strong>{actor}</strong> <Badge tone={tone}>{word}</Badge> {KIND_WORDS[kind]}{' '}
        <strong>{recordId}</strong> on <Moment epochMs={at} />
      </p>
      <FieldDiff
        label="Before and after"
        beforeLabel="Before"
        afterLabel="After"
        before={before ?? null}
        after={after ?? null}
        words={{ added: 'set' }}
      />
      <Since change={change} />
    </div>
  );
}

/** What became of the record, by the log itself: to ask for a record that is gone would be an error. */
function Since({ change }: { change: Change }): React.JSX.Element {
  const { kind, recordId } = change;
  const query = useQuery({
    queryKey: ['audit', 'newest', kind, recordId],
    queryFn: ({ signal }) => newestChange(kind, recordId, signal),
  });
  const name = `${KIND_WORDS[kind]} ${recordId}`;
  const newest = query.data ?? null;
  const since = newest === null ? null : sinceThen(change, newest);
  const listKind = RECORD_KINDS[kind];
  const links = [
    ...(since === 'unchanged' || since === 'changed'
      ? [{ label: `Open ${name}`, to: recordLink(listKind, recordId) }]
      : []),
    { label: `All changes of ${name}`, to: changesLink(listKind, recordId) },
  ];
  return (
    <>
      <p className={styles.about} role="status">
        {newest !== null && since === 'unchanged' && `Since then, the ${name} has not changed.`}
        {newest !== null && since === 'changed' && (
          <>
            Since then, the {name} has changed, last on <Moment epochMs={newest.at} />.
          </>
        )}
        {newest !== null && since === 'deleted' && (
          <>
            The {name} no longer exists: {newest.actor} deleted it on <Moment epochMs={newest.at} />.
          </>
        )}
      </p>
      <RelatedLinks label={`Related to ${name}`} links={links} />
    </>
  );
}
