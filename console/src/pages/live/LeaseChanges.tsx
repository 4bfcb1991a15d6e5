/** The last changes of leases, the newest first. */
import { useMemo } from 'react';

import { Badge } from '../../ui/Badge';
import { Panel } from '../../ui/Panel';
import { Table, type Column } from '../../ui/Table';
import { formatClock } from '../../ui/time';
import { holderInWords } from '../leases/lease';
import type { LiveFeed, LoggedLease } from './feed';
import { chargesInWords, debtInWords, eventInWords } from './leaseChange';
import { useObserved } from './useLiveFeed';

function Event({ event }: { event: string }): React.JSX.Element {
  const { label, tone } = eventInWords(event);
  return <Badge tone={tone}>{label}</Badge>;
}

/** Nothing until a lease is changed, because many servers have none. */
export function LeaseChanges({ feed }: { feed: LiveFeed }): React.JSX.Element | null {
  const changes = useObserved(feed.leases);
  const columns = useMemo(
    (): readonly Column<LoggedLease>[] => [
      { id: 'at', header: 'Time', cell: ({ change }) => formatClock(change.at) },
      { id: 'event', header: 'Lease', cell: ({ change }) => <Event event={change.event} /> },
      {
        id: 'holder',
        header: 'Holder',
        cell: ({ change: { subject } }) =>
          holderInWords({ user: subject.user ?? null, model: subject.model ?? null }),
      },
      { id: 'tenant', header: 'Tenant', cell: ({ change }) => change.subject.tenant ?? 'none' },
      { id: 'charged', header: 'Charged', cell: ({ change }) => chargesInWords(change) },
      { id: 'debt', header: 'Debt', cell: ({ change }) => debtInWords(change) },
    ],
    [],
  );
  if (changes.length === 0) return null;
  return (
    <Panel title="Leases">
      <Table
        label="changes of leases, the newest first"
        columns={columns}
        rows={changes}
        rowId={({ seq }) => String(seq)}
      />
    </Panel>
  );
}
