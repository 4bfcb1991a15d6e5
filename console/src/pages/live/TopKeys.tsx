/** The keys of one policy that use most, or were denied most. */
import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { Link } from 'react-router';

import { adminCall } from '../../api/admin';
import { OfflineError, ProblemError } from '../../api/problem';
import { cx } from '../../ui/cx';
import { EmptyState } from '../../ui/EmptyState';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import { Panel } from '../../ui/Panel';
import { SelectField } from '../../ui/SelectField';
import { Skeleton } from '../../ui/Skeleton';
import { formatDuration, formatTime } from '../../ui/time';
import { UsageBar } from '../../ui/UsageBar';
import styles from './TopKeys.module.css';
import { detailsOf, explainAddress, formatNumber } from './words';

export type Ranking = 'count' | 'denials';

/** What the store tells is null while it does not answer. */
interface TopKey {
  key: Readonly<Record<string, string>>;
  count: number | null;
  limit: number | null;
  remaining: number | null;
  retryAfterMs: number | null;
  resetAfterMs: number | null;
  /** On this node, estimated where the server samples. */
  admitted: number;
  denied: number;
}

interface Usage {
  policyId: string;
  by: Ranking;
  sinceMs: number;
  items: readonly TopKey[];
}

const EVERY_MS = 3_000;
/** As many as are beside the stream of decisions. */
const MAX_KEYS = 12;
const RANKINGS = [
  { value: 'count', label: 'Usage now' },
  { value: 'denials', label: 'Denials' },
];

export interface TopKeysProps {
  policy: string;
  by: Ranking;
  /** What may be chosen. */
  policies: readonly string[];
  onChange: (change: { keysOf?: string; by?: string }) => void;
}

export function TopKeys({ policy, by, policies, onChange }: TopKeysProps): React.JSX.Element {
  const options = [...new Set([policy, ...policies])].sort().map((id) => ({ value: id, label: id }));
  return (
    <Panel title="Top keys" className={styles.panel}>
      <div className={styles.choice}>
        <SelectField
          label="Policy"
          value={policy}
          options={options}
          onChange={(keysOf) => onChange({ keysOf })}
        />
        <SelectField label="By" value={by} options={RANKINGS} onChange={(value) => onChange({ by: value })} />
      </div>
      <Keys policy={policy} by={by} />
    </Panel>
  );
}

function Keys({ policy, by }: { policy: string; by: Ranking }): React.JSX.Element {
  const { data, error, isPlaceholderData, refetch } = useQuery({
    queryKey: ['usage', policy, by],
    queryFn: ({ signal }) =>
      adminCall<Usage>('/admin/usage', { query: { policy, by, limit: MAX_KEYS }, signal }),
    // Asked only while the page is seen, which is what the library does unless told otherwise.
    refetchInterval: EVERY_MS,
    placeholderData: keepPreviousData,
    retry: false,
  });
  if (error instanceof ProblemError && error.status === 404) {
    return (
      <EmptyState title={`Policy ${policy} has no limit now`}>
        It was deleted or disabled, or it is an exemption. Choose another policy.
      </EmptyState>
    );
  }
  if (data === undefined) {
    if (error === null) return <Skeleton lines={6} label="Loading the top keys" />;
    return <ErrorState error={error} onRetry={() => void refetch()} />;
  }
  const isUsageKnown = data.items.every(({ count }) => count !== null);
  return (
    <div className={cx(styles.keys, (isPlaceholderData || error !== null) && styles.old)}>
      {error !== null && <Stale error={error} />}
      {!isUsageKnown && (
        <Notice tone="warn">
          The store is unavailable, so usage is unknown. Below is only what this server counted.
        </Notice>
      )}
      {data.items.length === 0 ? (
        <EmptyState title={by === 'denials' ? 'No key was denied recently' : 'No key was used recently'} />
      ) : (
        <ol className={styles.list}>
          {data.items.map((item) => (
            <Key key={JSON.stringify(item.key)} item={item} />
          ))}
        </ol>
      )}
      <p className={styles.since}>
        {isUsageKnown && 'Usage is exact. '}Allowed and denied are what this server counted since{' '}
        {formatTime(data.sinceMs)}.
      </p>
    </div>
  );
}

function Stale({ error }: { error: Error }): React.JSX.Element {
  const why = error instanceof OfflineError ? 'the server is not responding' : error.message;
  return <Notice tone="bad">This list may be out of date: {why}.</Notice>;
}

/** `alice, gpt-4, tenant acme`. */
function nameOf(key: Readonly<Record<string, string>>): string {
  const { user, model } = key;
  const parts = [user, model, detailsOf(key)].filter((part) => part !== undefined && part !== '');
  return parts.length === 0 ? 'all checks together' : parts.join(', ');
}

function usageInWords({ count, limit, retryAfterMs }: TopKey): string {
  if (count === null || limit === null) return 'usage unknown';
  const usage = `${formatNumber(count)} of ${formatNumber(limit)}`;
  if (retryAfterMs === null) return `${usage}; never allowed`;
  return retryAfterMs > 0 ? `${usage}; retry in ${formatDuration(retryAfterMs)}` : usage;
}

function Key({ item }: { item: TopKey }): React.JSX.Element {
  const name = nameOf(item.key);
  return (
    <li className={styles.key}>
      <div className={styles.line}>
        <span className={styles.name} title={name}>
          {name}
        </span>
        <Link to={explainAddress(item.key)} aria-label={`Explain ${name}`}>
          Explain
        </Link>
      </div>
      <UsageBar count={item.count} limit={item.limit} />
      <div className={styles.line}>
        <span>{usageInWords(item)}</span>
        <span className={styles.counts}>
          {formatNumber(item.admitted)} allowed, {formatNumber(item.denied)} denied
        </span>
      </div>
    </li>
  );
}
