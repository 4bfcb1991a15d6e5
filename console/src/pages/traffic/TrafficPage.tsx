/** What passes through the gateway now: requests in flight, the queue, the models, the upstreams and the denials. */
import { useMemo, type ReactNode } from 'react';

import { OfflineError } from '../../api/problem';
import { EmptyState } from '../../ui/EmptyState';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import { Skeleton } from '../../ui/Skeleton';
import { StatusDot } from '../../ui/StatusDot';
import { Table, type Column } from '../../ui/Table';
import { formatDuration } from '../../ui/time';
import { UsageBar } from '../../ui/UsageBar';
import { formatNumber, formatRate } from '../live/words';
import records from '../records/Records.module.css';
import styles from './Traffic.module.css';
import {
  denialsOf,
  stateOf,
  sumOf,
  tokensASecond,
  type GatewayTraffic,
  type ModelCounts,
  type QueueTraffic,
  type Sample,
  type UpstreamTraffic,
} from './traffic';
import { useTraffic } from './useTraffic';

export default function TrafficPage(): React.JSX.Element {
  const { samples, error, retry } = useTraffic();
  const gateway = samples?.at(-1)?.gateway;
  return (
    <div className={records.page}>
      <h1>Traffic</h1>
      <p className={styles.about}>What passes through the gateway of this server, read every second.</p>
      {samples === undefined && error === null && <Skeleton lines={8} label="Loading the traffic" />}
      {samples === undefined && error !== null && <ErrorState error={error} onRetry={retry} />}
      {samples !== undefined && error !== null && <Stale error={error} />}
      {gateway === null && <NoGateway />}
      {samples !== undefined && gateway != null && <Gateway gateway={gateway} samples={samples} />}
    </div>
  );
}

function Stale({ error }: { error: Error }): React.JSX.Element {
  const why = error instanceof OfflineError ? 'the server is not responding' : error.message;
  return <Notice tone="bad">These figures may be out of date: {why}.</Notice>;
}

function NoGateway(): React.JSX.Element {
  return (
    <EmptyState title="This server has no gateway">
      Start it with <code>tollgate serve --gateway gateway.yaml</code> to serve a proxy in front of model
      servers. The integration guide shows what the file contains.
    </EmptyState>
  );
}

interface GatewayProps {
  gateway: GatewayTraffic;
  samples: readonly Sample[];
}

function Gateway({ gateway, samples }: GatewayProps): React.JSX.Element {
  const waiting = gateway.queues.reduce((sum, { length }) => sum + length, 0);
  const models = useMemo(() => modelColumns(samples), [samples]);
  return (
    <>
      <dl className={styles.figures}>
        <Figure name="In flight" value={formatNumber(gateway.inFlight - waiting)} />
        <Figure name="Waiting" value={formatNumber(waiting)} />
        <Figure name="Tokens a second" value={formatRate(rateOfAll(gateway, samples))} />
        <Figure name="Denied since the start" value={formatNumber(sumOf(gateway.denials))} />
      </dl>
      <Part title="Models">
        <Table label="models" columns={models} rows={gateway.models} rowId={({ model }) => model} />
      </Part>
      <Part title="Upstreams">
        <Table label="upstreams" columns={UPSTREAM_COLUMNS} rows={gateway.upstreams} rowId={({ id }) => id} />
      </Part>
      <Part title="Queue">
        <Table label="queue" columns={QUEUE_COLUMNS} rows={gateway.queues} rowId={(queue) => queue.class} />
      </Part>
      <Part title="Denials">
        <Table
          label="denials"
          columns={DENIAL_COLUMNS}
          rows={denialsOf(gateway)}
          rowId={({ words }) => words}
          empty={<EmptyState title="No request was denied since the start" />}
        />
      </Part>
    </>
  );
}

/** A heading and a table, which is a region of its own, so that this is none. */
function Part({ title, children }: { title: string; children: ReactNode }): React.JSX.Element {
  return (
    <div className={records.stack}>
      <h2>{title}</h2>
      {children}
    </div>
  );
}

function rateOfAll(gateway: GatewayTraffic, samples: readonly Sample[]): number | null {
  const rates = gateway.models.map(({ model }) => tokensASecond(samples, model));
  const known = rates.filter((rate) => rate !== null);
  return known.length === 0 ? null : known.reduce((sum, rate) => sum + rate, 0);
}

function Figure({ name, value }: { name: string; value: string }): React.JSX.Element {
  return (
    <div className={styles.figure}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function modelColumns(samples: readonly Sample[]): readonly Column<ModelCounts>[] {
  const rate = ({ model }: ModelCounts): number | null => tokensASecond(samples, model);
  return [
    { id: 'model', header: 'Model', cell: ({ model }) => model, sortBy: ({ model }) => model },
    {
      id: 'rate',
      header: 'Tokens a second',
      align: 'end',
      cell: (row) => formatRate(rate(row)),
      sortBy: (row) => rate(row) ?? -1,
    },
    {
      id: 'output',
      header: 'Output tokens',
      align: 'end',
      cell: ({ outputSoFar }) => formatNumber(outputSoFar),
      sortBy: ({ outputSoFar }) => outputSoFar,
    },
    {
      id: 'input',
      header: 'Input tokens',
      align: 'end',
      cell: ({ tokens }) => formatNumber(tokens.input ?? 0),
      sortBy: ({ tokens }) => tokens.input ?? 0,
    },
    {
      id: 'requests',
      header: 'Requests ended',
      align: 'end',
      cell: ({ requests }) => formatNumber(sumOf(requests)),
      sortBy: ({ requests }) => sumOf(requests),
    },
  ];
}

const UPSTREAM_COLUMNS: readonly Column<UpstreamTraffic>[] = [
  { id: 'id', header: 'Upstream', cell: ({ id }) => id, sortBy: ({ id }) => id },
  {
    id: 'state',
    header: 'State',
    cell: (row) => {
      const { tone, words } = stateOf(row);
      return (
        <span className={styles.state}>
          <StatusDot tone={tone} />
          {words}
        </span>
      );
    },
    sortBy: ({ state }) => state,
  },
  {
    id: 'requests',
    header: 'Requests in flight',
    cell: ({ requestsInFlight, maxConcurrency }) => <Load used={requestsInFlight} most={maxConcurrency} />,
    sortBy: ({ requestsInFlight, maxConcurrency }) => requestsInFlight / maxConcurrency,
  },
  {
    id: 'tokens',
    header: 'Tokens reserved',
    cell: ({ tokensInFlight, maxTokensInFlight }) => <Load used={tokensInFlight} most={maxTokensInFlight} />,
    sortBy: ({ tokensInFlight, maxTokensInFlight }) => tokensInFlight / maxTokensInFlight,
  },
  {
    id: 'failed',
    header: 'Failed',
    align: 'end',
    cell: ({ requests }) => formatNumber(sumOf(requests) - (requests.answered ?? 0)),
    sortBy: ({ requests }) => sumOf(requests) - (requests.answered ?? 0),
  },
];

function Load({ used, most }: { used: number; most: number }): React.JSX.Element {
  return (
    <span className={styles.load}>
      <span>
        {formatNumber(used)} of {formatNumber(most)}
      </span>
      <UsageBar count={used} limit={most} />
    </span>
  );
}

const QUEUE_COLUMNS: readonly Column<QueueTraffic>[] = [
  { id: 'class', header: 'Priority class', cell: (queue) => queue.class },
  { id: 'length', header: 'Waiting', align: 'end', cell: ({ length }) => formatNumber(length) },
  {
    id: 'mean',
    header: 'Mean wait since the start',
    align: 'end',
    cell: ({ waited, waitMs }) => (waited === 0 ? '–' : formatDuration(waitMs / waited)),
  },
];

interface Denial {
  words: string;
  count: number;
}

const DENIAL_COLUMNS: readonly Column<Denial>[] = [
  { id: 'reason', header: 'Reason', cell: ({ words }) => words },
  { id: 'count', header: 'Requests', align: 'end', cell: ({ count }) => formatNumber(count) },
];
