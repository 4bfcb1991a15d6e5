/** Live: decisions as they happen, and how the server is. */
import { useCallback, useMemo } from 'react';
import { useSearchParams } from 'react-router';

import type { EventFilter } from '../../api/events';
import { useSearchState } from '../../app/searchState';
import { Skeleton } from '../../ui/Skeleton';
import { Charts } from './Charts';
import { ConnectionBadge, ConnectionNotice } from './Connection';
import { DecisionStream } from './DecisionStream';
import type { Figures } from './feed';
import { filterOfQuery, type FilterField } from './filter';
import { FilterBar } from './FilterBar';
import { LeaseChanges } from './LeaseChanges';
import styles from './Live.module.css';
import { Tiles } from './Tiles';
import { TopKeys } from './TopKeys';
import { useLiveFeed, useObserved } from './useLiveFeed';

/** The policy that holds where there is no other. */
const DEFAULT_POLICY = 'default';

/** The policies that the server counts by name; what it adds up is in parentheses. */
function policyIds({ latest }: Figures): string[] {
  return Object.keys(latest?.policies ?? {}).filter((id) => !/^\(.*\)$/u.test(id));
}

export default function LivePage(): React.JSX.Element {
  const [params] = useSearchParams();
  const { get, set } = useSearchState();
  // The same object while it says the same, whatever else of the address changes.
  const asked = JSON.stringify(filterOfQuery(params));
  const filter = useMemo(() => JSON.parse(asked) as EventFilter, [asked]);
  const { feed, tryNow } = useLiveFeed(filter);
  const state = useObserved(feed.state);
  const figures = useObserved(feed.figures);
  const policies = useMemo(() => policyIds(figures), [figures]);
  const onFilter = useCallback(
    (change: Partial<Record<FilterField, string>>) => set(change, { replace: true }),
    [set],
  );
  const isStale = state.kind === 'broken';
  const busiest = figures.places.find((id) => id !== null && policies.includes(id));
  return (
    <div className={styles.page}>
      <div className={styles.top}>
        <h1>Live</h1>
        <ConnectionBadge state={state} />
      </div>
      <ConnectionNotice state={state} filter={filter} onTryNow={tryNow} />
      {figures.latest !== null && (
        <>
          <Tiles figures={figures} isStale={isStale} />
          <Charts figures={figures} isStale={isStale} />
        </>
      )}
      {figures.latest === null && !isStale && <Skeleton lines={8} label="Loading the figures" />}
      <div className={styles.lists}>
        <DecisionStream feed={feed} filter={filter} isListening={!isStale}>
          <FilterBar filter={filter} policies={policies} onChange={onFilter} />
        </DecisionStream>
        <TopKeys
          policy={get('keysOf') || (busiest ?? policies[0] ?? DEFAULT_POLICY)}
          by={get('by') === 'denials' ? 'denials' : 'count'}
          policies={policies}
          onChange={(change) => set(change, { replace: true })}
        />
      </div>
      <LeaseChanges feed={feed} />
    </div>
  );
}
