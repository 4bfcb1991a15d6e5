/** One record over the page: read, shown as a form, and saved. */
import { useQuery } from '@tanstack/react-query';
import type { FieldValues } from 'react-hook-form';

import type { Access } from '../../api/access';
import { ProblemError } from '../../api/problem';
import { idOfAddress } from '../../api/admin';
import { getRecord } from '../../api/records';
import { Dialog } from '../../ui/Dialog';
import { EmptyState } from '../../ui/EmptyState';
import { ErrorState } from '../../ui/ErrorState';
import { Skeleton } from '../../ui/Skeleton';
import type { Item, Kind } from './kind';
import { RecordForm } from './RecordForm';

export interface RecordDialogProps<Record extends Item, Form extends FieldValues> {
  kind: Kind<Record, Form>;
  /** Null for a new one. */
  id: string | null;
  access: Access;
  onClose: () => void;
  onChanged: (record: Record | null) => void;
}

export function RecordDialog<Record extends Item, Form extends FieldValues>(
  props: RecordDialogProps<Record, Form>,
): React.JSX.Element {
  const { kind, id, ...rest } = props;
  const title =
    id === null
      ? `New ${kind.one}`
      : `${kind.one[0]?.toUpperCase() ?? ''}${kind.one.slice(1)} ${idOfAddress(id)}`;
  return (
    <Dialog title={title} isOpen onClose={rest.onClose} size="l">
      {id === null ? (
        <RecordForm kind={kind} loaded={null} {...rest} />
      ) : (
        <LoadedForm kind={kind} id={id} {...rest} />
      )}
    </Dialog>
  );
}

function LoadedForm<Record extends Item, Form extends FieldValues>(
  props: RecordDialogProps<Record, Form> & { id: string },
): React.JSX.Element {
  const { kind, id, ...rest } = props;
  const query = useQuery({
    queryKey: ['record', kind.kind, id],
    queryFn: ({ signal }) => getRecord<Record>(kind.kind, id, signal),
    // A form must not change under the hands of who fills it in; the version it names tells whether it is old.
    staleTime: Infinity,
    gcTime: 0,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
  });
  if (query.isPending) return <Skeleton lines={6} label={`Loading the ${kind.one}`} />;
  if (query.isError) {
    if (query.error instanceof ProblemError && query.error.status === 404) {
      return (
        <EmptyState title={`There is no ${kind.one} with this ID`}>
          If it was deleted, the audit log says by whom.
        </EmptyState>
      );
    }
    return <ErrorState error={query.error} onRetry={() => void query.refetch()} />;
  }
  return <RecordForm kind={kind} loaded={query.data} {...rest} />;
}
