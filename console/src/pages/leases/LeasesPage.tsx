/** Live leases by policy and tenant: what each holds against what was used, and releasing one by hand. */
import { useCallback, useState } from 'react';

import { OfflineError } from '../../api/problem';
import { useSearchState } from '../../app/searchState';
import { Button } from '../../ui/Button';
import { cx } from '../../ui/cx';
import { EmptyState } from '../../ui/EmptyState';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import { Skeleton } from '../../ui/Skeleton';
import { FilterField } from '../records/FilterField';
import records from '../records/Records.module.css';
import { GroupTable } from './GroupTable';
import { MAX_LISTED, type LiveLease } from './lease';
import styles from './Leases.module.css';
import { LeaseTable } from './LeaseTable';
import { ReleaseDialog } from './ReleaseDialog';
import { useLiveLeases, type LiveLeasesState } from './useLiveLeases';

export default function LeasesPage(): React.JSX.Element {
  const { get, set } = useSearchState();
  const filters = { policy: get('policy'), tenant: get('tenant') };
  const state = useLiveLeases(filters);
  const [released, setReleased] = useState<LiveLease | null>(null);
  const onPolicy = useCallback((policy: string) => set({ policy }, { replace: true }), [set]);
  const onTenant = useCallback((tenant: string) => set({ tenant }, { replace: true }), [set]);
  const isNarrowed = filters.policy !== '' || filters.tenant !== '';
  return (
    <div className={records.page}>
      <h1>Leases</h1>
      <p className={styles.about}>
        Live leases, oldest first: what each holds, and what its holder has reported as used so far.
      </p>
      <div className={styles.toolbar} role="search" aria-label="leases">
        <FilterField
          filter={{ name: 'policy', label: 'Policy', of: 'policies' }}
          value={filters.policy}
          onChange={onPolicy}
        />
        <FilterField
          filter={{ name: 'tenant', label: 'Tenant', of: 'tenants' }}
          value={filters.tenant}
          onChange={onTenant}
        />
        <Button isPending={state.isReading} onPress={state.refetch}>
          Refresh
        </Button>
      </div>
      <Listed state={state} isNarrowed={isNarrowed} onRelease={setReleased} />
      {released !== null && (
        <ReleaseDialog lease={released} onClose={() => setReleased(null)} onChanged={state.refetch} />
      )}
    </div>
  );
}

interface ListedProps {
  state: LiveLeasesState;
  isNarrowed: boolean;
  onRelease: (lease: LiveLease) => void;
}

function Listed({ state, isNarrowed, onRelease }: ListedProps): React.JSX.Element {
  const { data, error, isOld, sinceMs, refetch } = state;
  if (data === undefined) {
    if (error === null) return <Skeleton lines={8} label="Loading the leases" />;
    return <ErrorState error={error} onRetry={refetch} />;
  }
  return (
    <div className={cx(styles.lists, (isOld || error !== null) && styles.old)}>
      {error !== null && <Stale error={error} />}
      {!data.complete && (
        <Notice tone="warn">
          There are more leases than are shown: at most the {MAX_LISTED} oldest are listed, and the sums are
          of at most 10,000.
        </Notice>
      )}
      {data.items.length === 0 ? (
        <Nothing isNarrowed={isNarrowed} />
      ) : (
        <>
          {data.groups.length > 0 && <GroupTable groups={data.groups} sinceMs={sinceMs} />}
          <LeaseTable leases={data.items} sinceMs={sinceMs} onRelease={onRelease} />
        </>
      )}
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
    <EmptyState title="There are no live leases">
      A lease is listed here from its reservation until it is settled or released, or expires.
    </EmptyState>
  );
}
