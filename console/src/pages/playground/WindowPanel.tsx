/** The window of one limit: its timeline, and what there is to say of it. */
import { useCallback, useState } from 'react';

import { Panel } from '../../ui/Panel';
import { formatClock, formatDuration, formatWindow, useNow } from '../../ui/time';
import { formatCount, unitInWords, type Decision } from '../check/words';
import type { Mark } from './geometry';
import { Timeline } from './Timeline';
import styles from './Window.module.css';
import { isExact, leavesAt, nextToLeave, usageAt, usageOfOthers, type LimitWindow } from './windowModel';

export interface WindowPanelProps {
  /** Undefined where no limit was met, or the store was not asked. */
  window: LimitWindow | undefined;
  decision: Decision;
}

export function WindowPanel({ window, decision }: WindowPanelProps): React.JSX.Element {
  if (window === undefined) {
    return (
      <Panel title="The window">
        <p className={styles.note}>
          {decision.degraded
            ? 'Nothing to show: the store is unavailable, so nothing was counted.'
            : decision.limits.length === 0
              ? 'Nothing to show: no limit applies to this check, so nothing is counted.'
              : 'Nothing to show: only limits of leases apply to this check, and they have no window.'}
        </p>
      </Panel>
    );
  }
  return <ShownWindow key={`${window.policyId} ${window.unit}`} window={window} />;
}

function wallClock(monotonicMs: number): string {
  return formatClock(performance.timeOrigin + monotonicMs);
}

/** A mark in words, at the moment that they are read. */
function describeMark(window: LimitWindow, mark: Mark): string {
  if (mark.kind === 'denial') return `Denied at ${wallClock(mark.at)}; nothing was counted.`;
  const amount = `${formatCount(mark.amount)} ${unitInWords(window.unit, mark.amount)}`;
  const at = wallClock(mark.at);
  const admitted =
    mark.isDenied === true ? `Denied at ${at}, but ${amount} counted` : `Allowed ${amount} at ${at}`;
  if (!isExact(window)) return `${admitted}.`;
  const leaves = leavesAt(window, mark);
  const wait = formatDuration(Math.max(0, leaves - performance.now()));
  return `${admitted}; leaves at ${wallClock(leaves)}, in ${wait}.`;
}

function ShownWindow({ window }: { window: LimitWindow }): React.JSX.Element {
  const [selected, setSelected] = useState<Mark | null>(null);
  const describe = useCallback((mark: Mark) => describeMark(window, mark), [window]);
  const length = formatWindow(window.windowMs / 1_000);
  return (
    <Panel
      title={`The last ${length} of ${window.policyId}`}
      actions={
        <ul className={styles.legend}>
          <li className={styles.keyAdmission}>allowed</li>
          <li className={styles.keyDenial}>denied</li>
          <li className={styles.keyUsage}>usage</li>
        </ul>
      }
    >
      <Timeline window={window} selected={selected} onSelect={setSelected} describe={describe} />
      <div className={styles.axis} aria-hidden="true">
        <span>← leaves, {length} ago</span>
        <span>now →</span>
      </div>
      <WindowWords window={window} selected={selected} />
    </Panel>
  );
}

function WindowWords({
  window,
  selected,
}: {
  window: LimitWindow;
  selected: Mark | null;
}): React.JSX.Element {
  const hasEntries = window.admissions.length > 0;
  const now = useNow(hasEntries);
  const others = usageOfOthers(window);
  const unit = unitInWords(window.unit);
  const next = nextToLeave(window, now);
  return (
    <div className={styles.words}>
      <p className={styles.next}>
        {selected !== null && describeMark(window, selected)}
        {selected === null && <NextToLeave window={window} now={now} next={next} />}
      </p>
      <p className={styles.note}>
        {formatCount(usageAt(window, now))} {unit} in the window came from this page
        {others > 0 &&
          `; ${formatCount(others)} more came from elsewhere or from before this page was opened`}
        .
      </p>
      {!isExact(window) && (
        <p className={styles.note}>
          This policy uses a counter, which is approximate: it counts in fixed windows, and usage fades out
          gradually instead of leaving at one moment.
        </p>
      )}
    </div>
  );
}

interface NextToLeaveProps {
  window: LimitWindow;
  now: number;
  next: { at: number; amount: number } | null;
}

function NextToLeave({ window, now, next }: NextToLeaveProps): React.JSX.Element {
  if (next === null) return <>Nothing from this page is in the window.</>;
  if (!isExact(window)) return <>Point at a mark for details.</>;
  const wait = formatDuration(Math.max(0, leavesAt(window, next) - now));
  return (
    <>
      The oldest check leaves the window in <strong>{wait}</strong> and frees {formatCount(next.amount)}.
    </>
  );
}
