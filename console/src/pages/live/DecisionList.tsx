/** Decisions, the newest first, of which only those in sight are drawn. */
import { useVirtualizer } from '@tanstack/react-virtual';
import { memo, useEffect, useLayoutEffect, useRef, useState, type RefObject } from 'react';
import { Link } from 'react-router';

import { Badge } from '../../ui/Badge';
import { cx } from '../../ui/cx';
import { formatClock, formatDuration } from '../../ui/time';
import type { Logged } from './decisionLog';
import styles from './Stream.module.css';
import { detailsOf, explainDecisionAddress, formatNumber, noteOf, usageOf } from './words';

const OVERSCAN_ROWS = 6;
const FALLBACK_ROW_PX = 32;

export interface DecisionListProps {
  newestFirst: readonly Logged[];
  /** Whether the list stands still, so that a row can be pointed at. */
  isHeld: boolean;
  onScrolled: (isAtTop: boolean) => void;
  scroller: RefObject<HTMLDivElement | null>;
}

/** The height of a row, which the style decides by the width. */
function useRowHeight(ref: RefObject<HTMLElement | null>): number {
  const [height, setHeight] = useState(FALLBACK_ROW_PX);
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(() => setHeight(element.offsetHeight || FALLBACK_ROW_PX));
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return height;
}

export function DecisionList(props: DecisionListProps): React.JSX.Element {
  'use no memo'; // The virtualizer changes inside while it stays the same object.
  const { newestFirst, isHeld, onScrolled, scroller } = props;
  const sizer = useRef<HTMLDivElement>(null);
  const rowPx = useRowHeight(sizer);
  // eslint-disable-next-line react-hooks/incompatible-library -- the directive above keeps the compiler away
  const virtualizer = useVirtualizer({
    count: newestFirst.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => rowPx,
    overscan: OVERSCAN_ROWS,
  });
  useEffect(() => virtualizer.measure(), [virtualizer, rowPx]);
  return (
    <div
      ref={scroller}
      className={styles.scroller}
      // A region that scrolls must be reachable by keyboard.
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
      tabIndex={0}
      role="region"
      aria-label="List of decisions"
      onScroll={(event) => onScrolled(event.currentTarget.scrollTop < rowPx / 2)}
    >
      <div ref={sizer} className={styles.sizer} aria-hidden="true" />
      <div role="table" aria-label="Decisions, the newest first" aria-rowcount={newestFirst.length + 1}>
        <Head isHeld={isHeld} />
        <div role="rowgroup" className={styles.rows} style={{ height: virtualizer.getTotalSize() }}>
          {virtualizer.getVirtualItems().map(({ index, start }) => {
            const logged = newestFirst[index];
            if (logged === undefined) return null;
            // By its place: what runs through changes the text of a row rather than the row, ten times a second.
            return <Row key={index} logged={logged} index={index} startPx={start} isHeld={isHeld} />;
          })}
        </div>
      </div>
    </div>
  );
}

function Head({ isHeld }: { isHeld: boolean }): React.JSX.Element {
  return (
    <div role="rowgroup" className={styles.head}>
      <div role="row" aria-rowindex={1} className={cx(styles.row, isHeld && styles.held)}>
        <span role="columnheader" className={styles.time}>
          Time
        </span>
        <span role="columnheader" className={styles.outcome}>
          Outcome
        </span>
        <span role="columnheader" className={styles.user}>
          User
        </span>
        <span role="columnheader" className={styles.model}>
          Model
        </span>
        <span role="columnheader" className={styles.policy}>
          Policy
        </span>
        <span role="columnheader" className={styles.usage}>
          Used
        </span>
        <span role="columnheader" className={styles.more}>
          More
        </span>
        {isHeld && (
          <span role="columnheader" className={styles.explain}>
            <span className="visually-hidden">Explain</span>
          </span>
        )}
      </div>
    </div>
  );
}

interface RowProps {
  logged: Logged;
  index: number;
  startPx: number;
  isHeld: boolean;
}

const Row = memo(function Row({ logged: { decision }, index, startPx, isHeld }: RowProps): React.JSX.Element {
  const { allowed, subject, policyId, retryAfterMs, weight } = decision;
  const usage = usageOf(decision);
  const wait = retryAfterMs !== null && retryAfterMs > 0 ? `retry in ${formatDuration(retryAfterMs)}` : '';
  const sample = weight > 1 ? `represents ${formatNumber(weight)}` : '';
  const more = [wait, detailsOf(subject), sample].filter((text) => text !== '').join(', ');
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      className={cx(styles.row, styles.body, isHeld && styles.held)}
      style={{ transform: `translateY(${startPx}px)` }}
    >
      <span role="cell" className={styles.time}>
        {formatClock(decision.at)}
      </span>
      <span role="cell" className={styles.outcome}>
        <Badge tone={allowed ? 'ok' : 'bad'}>{allowed ? 'Allowed' : 'Denied'}</Badge>{' '}
        <span className={styles.note}>{noteOf(decision)}</span>
      </span>
      <span role="cell" className={styles.user} title={subject.user ?? ''}>
        {subject.user}
      </span>
      <span role="cell" className={styles.model} title={subject.model ?? ''}>
        {subject.model}
      </span>
      <span role="cell" className={styles.policy} title={policyId ?? ''}>
        {policyId ?? 'none'}
      </span>
      <span role="cell" className={styles.usage} title={usage}>
        {usage}
      </span>
      <span role="cell" className={styles.more} title={more}>
        {more}
      </span>
      {isHeld && (
        <span role="cell" className={styles.explain}>
          <Link
            to={explainDecisionAddress(decision)}
            aria-label={`Explain ${subject.user ?? ''}, ${subject.model ?? ''}`}
          >
            Explain
          </Link>
        </span>
      )}
    </div>
  );
});
