/** Live leases added up by policy and tenant. Each line narrows the page to its leases. */
import { useMemo } from 'react';
import { Link } from 'react-router';

import { Table, type Column } from '../../ui/Table';
import { formatDuration } from '../../ui/time';
import { UsageBar } from '../../ui/UsageBar';
import { formatCount } from '../check/words';
import { hasShare, holdInWords, type LeaseGroup } from './lease';
import styles from './Leases.module.css';

export interface GroupTableProps {
  groups: readonly LeaseGroup[];
  /** How long ago the server said so. */
  sinceMs: number;
}

function idOf({ policyId, unit, tenant }: LeaseGroup): string {
  return JSON.stringify([policyId, unit, tenant]);
}

function linkTo({ policyId, tenant }: LeaseGroup): string {
  return `?${new URLSearchParams({ policy: policyId, ...(tenant === null ? {} : { tenant }) }).toString()}`;
}

export function GroupTable({ groups, sinceMs }: GroupTableProps): React.JSX.Element {
  const columns = useMemo(
    (): readonly Column<LeaseGroup>[] => [
      {
        id: 'policy',
        header: 'Policy',
        cell: (group) => (
          <Link
            to={linkTo(group)}
            className={styles.name}
            aria-label={`Only leases of policy ${group.policyId}${group.tenant === null ? '' : `, tenant ${group.tenant}`}`}
          >
            {group.policyId}
          </Link>
        ),
        sortBy: ({ policyId }) => policyId,
      },
      {
        id: 'tenant',
        header: 'Tenant',
        cell: ({ tenant }) => <Tenant tenant={tenant} />,
        sortBy: ({ tenant }) => tenant ?? '',
      },
      {
        id: 'leases',
        header: 'Leases',
        align: 'end',
        cell: ({ leases }) => formatCount(leases),
        sortBy: ({ leases }) => leases,
      },
      {
        id: 'held',
        header: 'Used of reserved',
        cell: (group) => (
          <span className={styles.hold}>
            {holdInWords(group)}
            {hasShare(group) && <UsageBar count={group.used} limit={group.reserved} />}
          </span>
        ),
      },
      {
        id: 'oldest',
        header: 'Oldest',
        align: 'end',
        cell: ({ oldestMs }) => formatDuration(oldestMs + sinceMs),
        sortBy: ({ oldestMs }) => oldestMs,
      },
    ],
    [sinceMs],
  );
  return (
    <section className={styles.section} aria-label="By policy and tenant">
      <h2>By policy and tenant</h2>
      <Table label="leases by policy and tenant" columns={columns} rows={groups} rowId={idOf} />
    </section>
  );
}

export function Tenant({ tenant }: { tenant: string | null }): React.JSX.Element {
  return tenant === null ? <span className={styles.muted}>none</span> : <span>{tenant}</span>;
}
