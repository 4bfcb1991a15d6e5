/** The leases that are alive, the oldest first, and their release by hand. The address holds the filters. */
import { keepPreviousData, useQuery, useQueryClient } from '@tanstack/react-query';
import { useMemo, useState } from 'react';

import { OfflineError } from '../../api/problem';
import { useSearchState } from '../../app/searchState';
import { Button } from '../../ui/Button';
import { ConfirmDialog } from '../../ui/ConfirmDialog';
import { EmptyState } from '../../ui/EmptyState';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import { SearchField } from '../../ui/SearchField';
import { Skeleton } from '../../ui/Skeleton';
import { Table, type Column } from '../../ui/Table';
import { formatDuration } from '../../ui/time';
import { toast } from '../../ui/Toast';
import records from '../records/Records.module.css';
import {
  holderOf,
  listLeases,
  policiesOf,
  releaseLease,
  slotsOf,
  sumInWords,
  sumOf,
  usageInWords,
  type Lease,
} from './lease';
import styles from './Leases.module.css';

const EVERY_MS = 3_000;

function columnsFor(release: (lease: Lease) => void): readonly Column<Lease>[] {
  return [
    {
      id: 'age',
      header: 'Age',
      align: 'end',
      cell: ({ ageMs }) => formatDuration(ageMs),
      sortBy: ({ ageMs }) => ageMs,
    },
    {
      id: 'tenant',
      header: 'Tenant',
      cell: ({ tenant }) => tenant ?? '–',
      sortBy: ({ tenant }) => tenant ?? '',
    },
    { id: 'holder', header: 'User, model', cell: holderOf, sortBy: holderOf },
    {
      id: 'policies',
      header: 'Policies',
      cell: (lease) => policiesOf(lease).join(', '),
      sortBy: (lease) => policiesOf(lease).join(', '),
    },
    {
      id: 'usage',
      header: 'Used of reserved',
      cell: (lease) => (
        <span className={styles.usage}>
          {usageInWords(lease).map((words) => (
            <span key={words}>{words}</span>
          ))}
        </span>
      ),
    },
    { id: 'slots', header: 'Slots', align: 'end', cell: slotsOf, sortBy: slotsOf },
    {
      id: 'left',
      header: 'Expires in',
      align: 'end',
      cell: ({ livesForMs }) => formatDuration(livesForMs),
      sortBy: ({ livesForMs }) => livesForMs,
    },
    {
      id: 'release',
      header: 'Release',
      cell: (lease) =>
        lease.id === null ? null : (
          <Button aria-label={`Release the lease of ${holderOf(lease)}`} onPress={() => release(lease)}>
            Release
          </Button>
        ),
    },
  ];
}

const OLDEST_FIRST = [{ id: 'age', desc: true }];

export default function LeasesPage(): React.JSX.Element {
  const { get, set } = useSearchState();
  const filter = { policy: get('policy'), tenant: get('tenant') };
  const [chosen, setChosen] = useState<Lease | null>(null);
  const columns = useMemo(() => columnsFor(setChosen), []);
  const { data, error, refetch } = useQuery({
    queryKey: ['leases', filter],
    queryFn: ({ signal }) => listLeases(filter, signal),
    refetchInterval: EVERY_MS,
    placeholderData: keepPreviousData,
    retry: false,
  });
  const isNarrowed = filter.policy !== '' || filter.tenant !== '';
  return (
    <div className={records.page}>
      <h1>Leases</h1>
      <p className={styles.about}>Requests that hold tokens or a slot now, the oldest first.</p>
      <div className={styles.toolbar} role="search" aria-label="leases">
        <SearchField
          label="Policy"
          value={filter.policy}
          placeholder="any"
          onChange={(policy) => set({ policy })}
        />
        <SearchField
          label="Tenant"
          value={filter.tenant}
          placeholder="any"
          onChange={(tenant) => set({ tenant })}
        />
      </div>
      {data === undefined && error === null && <Skeleton lines={8} label="Loading the leases" />}
      {data === undefined && error !== null && <ErrorState error={error} onRetry={() => void refetch()} />}
      {data !== undefined && (
        <>
          {error !== null && <Stale error={error} />}
          {data.items.length > 0 && <p className={styles.sum}>{sumInWords(sumOf(data.items))}</p>}
          {!data.complete && <Notice tone="warn">There are more. Choose a policy or a tenant.</Notice>}
          <Table
            label="leases"
            columns={columns}
            rows={data.items}
            rowId={(lease) =>
              lease.id ?? JSON.stringify([lease.tenant, lease.user, lease.model, lease.ageMs])
            }
            order={OLDEST_FIRST}
            empty={<Nothing isNarrowed={isNarrowed} />}
          />
        </>
      )}
      {chosen !== null && <Release lease={chosen} onClose={() => setChosen(null)} />}
    </div>
  );
}

function Stale({ error }: { error: Error }): React.JSX.Element {
  const why = error instanceof OfflineError ? 'the server is not responding' : error.message;
  return <Notice tone="bad">This list may be out of date: {why}.</Notice>;
}

function Nothing({ isNarrowed }: { isNarrowed: boolean }): React.JSX.Element {
  if (isNarrowed) return <EmptyState title="No matching leases">Change the filters.</EmptyState>;
  return (
    <EmptyState title="No lease is alive">
      A request that reserves with POST /rate-limit/leases is listed until it is settled, released or expires.
    </EmptyState>
  );
}

function Release({ lease, onClose }: { lease: Lease; onClose: () => void }): React.JSX.Element {
  const queries = useQueryClient();
  const holder = holderOf(lease);
  const release = async (): Promise<void> => {
    if (lease.id !== null) await releaseLease(lease.id);
    await queries.invalidateQueries({ queryKey: ['leases'] });
    toast(`The lease of ${holder} was released`);
    onClose();
  };
  return (
    <ConfirmDialog
      title={`Release the lease of ${holder}?`}
      action="Release"
      onConfirm={release}
      onClose={onClose}
    >
      <p>
        What it holds is free at once, as if it had not been reserved. If its holder is still at work, its
        next update is refused, and what it uses is not counted.
      </p>
    </ConfirmDialog>
  );
}
