/** The stream of decisions: it runs until it is paused or scrolled, and then stands still while more is counted. */
import { useRef, useState } from 'react';

import type { EventFilter } from '../../api/events';
import { Link } from 'react-router';

import { Button } from '../../ui/Button';
import { EmptyState } from '../../ui/EmptyState';
import { Panel } from '../../ui/Panel';
import { DecisionList } from './DecisionList';
import type { LiveFeed, ShownDecisions } from './feed';
import { isFiltered } from './filter';
import { useObserved } from './useLiveFeed';
import styles from './Stream.module.css';
import { formatNumber } from './words';

interface Hold {
  readonly shown: ShownDecisions;
  /** What holds it; scrolling back up lets go of what scrolling held. */
  readonly by: 'button' | 'scroll';
}

export interface DecisionStreamProps {
  feed: LiveFeed;
  filter: EventFilter;
  isListening: boolean;
  /** The fields of the filter. */
  children: React.ReactNode;
}

export function DecisionStream({
  feed,
  filter,
  isListening,
  children,
}: DecisionStreamProps): React.JSX.Element {
  const now = useObserved(feed.decisions);
  const [hold, setHold] = useState<Hold | null>(null);
  const [heldFilter, setHeldFilter] = useState(filter);
  const scroller = useRef<HTMLDivElement>(null);
  if (heldFilter !== filter) {
    // What stands still was heard under another filter.
    setHeldFilter(filter);
    setHold(null);
  }
  const shown = hold?.shown ?? now;
  const missed = now.total - shown.total;
  const resume = (): void => {
    setHold(null);
    scroller.current?.scrollTo({ top: 0 });
  };
  const onScrolled = (isAtTop: boolean): void => {
    if (isAtTop && hold?.by === 'scroll') setHold(null);
    if (!isAtTop && hold === null) setHold({ shown: now, by: 'scroll' });
  };
  const weight = shown.newestFirst[0]?.decision.weight ?? 1;
  return (
    <Panel
      title="Decisions"
      className={styles.panel}
      actions={
        <div className={styles.actions}>
          <Count hold={hold} missed={missed} held={shown.newestFirst.length} />
          <Button onPress={() => (hold === null ? setHold({ shown: now, by: 'button' }) : resume())}>
            {hold === null ? 'Pause' : 'Resume'}
          </Button>
        </div>
      }
    >
      {children}
      {weight > 1 && (
        <p className={styles.sampled}>
          A sample: there are more than 1,000 decisions a second, and each row represents about{' '}
          {formatNumber(weight)}.
        </p>
      )}
      {shown.newestFirst.length === 0 ? (
        <Empty isListening={isListening} isNarrow={isFiltered(filter)} />
      ) : (
        <DecisionList
          newestFirst={shown.newestFirst}
          isHeld={hold !== null}
          onScrolled={onScrolled}
          scroller={scroller}
        />
      )}
    </Panel>
  );
}

function Count({
  hold,
  missed,
  held,
}: {
  hold: Hold | null;
  missed: number;
  held: number;
}): React.JSX.Element {
  if (hold === null) return <span className={styles.count}>{formatNumber(held)} shown</span>;
  return <span className={styles.count}>Paused; {formatNumber(missed)} new</span>;
}

function Empty({ isListening, isNarrow }: { isListening: boolean; isNarrow: boolean }): React.JSX.Element {
  if (!isListening) return <EmptyState title="Not connected to the server" />;
  if (isNarrow) {
    return (
      <EmptyState title="No matching decisions yet">
        Decisions that match the filter appear here as they are made. The figures and charts above are not
        filtered.
      </EmptyState>
    );
  }
  return (
    <EmptyState title="No decisions yet">
      Decisions appear here as they are made. Try a check in the <Link to="/">playground</Link>.
    </EmptyState>
  );
}
