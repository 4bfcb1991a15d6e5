/** Live leases one by one, with what each holds. */
import { useMemo } from 'react';

import { Button } from '../../ui/Button';
import { Table, type Column } from '../../ui/Table';
import { formatDuration } from '../../ui/time';
import { UsageBar } from '../../ui/UsageBar';
import { Tenant } from './GroupTable';
import { hasShare, holderInWords, holdInWords, type LiveLease } from './lease';
import styles from './Leases.module.css';

export interface LeaseTableProps {
  leases: readonly LiveLease[];
  /** How long ago the server said so. */
  sinceMs: number;
  onRelease: (lease: LiveLease) => void;
}

/** A lease with its place in the list, which names it for a reader who may not know its id. */
interface Row {
  lease: LiveLease;
  place: number;
}

export function LeaseTable({ leases, sinceMs, onRelease }: LeaseTableProps): React.JSX.Element {
  const rows = useMemo(() => leases.map((lease, place): Row => ({ lease, place })), [leases]);
  const mayRelease = leases.some(({ id }) => id !== null);
  const columns = useMemo((): readonly Column<Row>[] => {
    const release: Column<Row> = {
      id: 'release',
      header: 'Action',
      align: 'end',
      cell: ({ lease }) => (
        <Button aria-label={`Release the lease of ${holderInWords(lease)}`} onPress={() => onRelease(lease)}>
          Release
        </Button>
      ),
    };
    const facts: readonly Column<Row>[] = [
      {
        id: 'holder',
        header: 'Holder',
        cell: ({ lease }) => <span className={styles.name}>{holderInWords(lease)}</span>,
        sortBy: ({ lease }) => holderInWords(lease),
      },
      {
        id: 'tenant',
        header: 'Tenant',
        cell: ({ lease }) => <Tenant tenant={lease.tenant} />,
        sortBy: ({ lease }) => lease.tenant ?? '',
      },
      { id: 'held', header: 'Used of reserved', cell: ({ lease }) => <Holds lease={lease} /> },
      {
        id: 'age',
        header: 'Age',
        align: 'end',
        cell: ({ lease }) => formatDuration(lease.ageMs + sinceMs),
        sortBy: ({ lease }) => lease.ageMs,
      },
      {
        id: 'left',
        header: 'Expires in',
        align: 'end',
        cell: ({ lease }) => {
          const leftMs = lease.livesForMs - sinceMs;
          return leftMs > 0 ? formatDuration(leftMs) : 'expired';
        },
        sortBy: ({ lease }) => lease.livesForMs,
      },
    ];
    return mayRelease ? [...facts, release] : facts;
  }, [sinceMs, mayRelease, onRelease]);
  return (
    <section className={styles.section} aria-label="Leases">
      <h2>Leases</h2>
      <Table
        label="live leases"
        columns={columns}
        rows={rows}
        rowId={({ lease, place }) => lease.id ?? String(place)}
      />
    </section>
  );
}

function Holds({ lease: { limits } }: { lease: LiveLease }): React.JSX.Element {
  if (limits.length === 0) return <span className={styles.muted}>nothing</span>;
  return (
    <ul className={styles.holds}>
      {limits.map((hold) => (
        <li key={`${hold.policyId} ${hold.unit}`} className={styles.hold}>
          <span>
            <span className={styles.muted}>{hold.policyId}</span> {holdInWords(hold)}
          </span>
          {hasShare(hold) && <UsageBar count={hold.used} limit={hold.reserved} />}
        </li>
      ))}
    </ul>
  );
}
