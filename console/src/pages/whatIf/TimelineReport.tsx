/** What is allowed and denied over time, in two charts, and in a table for those who read rather than look. */
import { useMemo } from 'react';

import { Panel } from '../../ui/Panel';
import { formatDateTime, formatWindow } from '../../ui/time';
import { Chart } from '../live/Chart';
import charts from '../live/Charts.module.css';
import type { Line } from '../live/plot';
import { formatNumber } from '../live/words';
import { timelineSteps, timelineWords, type Comparison, type TimelineStep } from './whatIf';
import styles from './WhatIf.module.css';

const NO_PERIODS: readonly never[] = [];

function linesOf(steps: readonly TimelineStep[], of: 'allowed' | 'denied', color: Line['color']): Line[] {
  return [
    { label: 'Now', color, dash: [], values: steps.map((step) => step[of].old) },
    { label: 'Then', color: '--series-2', dash: [6, 4], values: steps.map((step) => step[of].new) },
  ];
}

export function TimelineReport({
  timeline,
}: {
  timeline: NonNullable<Comparison['timeline']>;
}): React.JSX.Element {
  const steps = useMemo(() => timelineSteps(timeline), [timeline]);
  const shown = useMemo(
    () => ({
      times: steps.map(({ at }) => at),
      allowed: linesOf(steps, 'allowed', '--ok-fill'),
      denied: linesOf(steps, 'denied', '--bad-fill'),
    }),
    [steps],
  );
  const common = { times: shown.times, periods: NO_PERIODS, format: formatNumber, isPast: true };
  return (
    <Panel title="Over time">
      <p className={styles.muted}>
        Checks in steps of {formatWindow(timeline.stepSeconds)}, by the policies in force now and by the other
        policies then. {timelineWords(steps)}
      </p>
      <div className={charts.charts}>
        <Chart {...common} title="Allowed checks" lines={shown.allowed} />
        <Chart {...common} title="Denied checks" lines={shown.denied} />
      </div>
      <details className={charts.details}>
        <summary>Over time as a table</summary>
        <StepsTable steps={steps} />
      </details>
    </Panel>
  );
}

function StepsTable({ steps }: { steps: readonly TimelineStep[] }): React.JSX.Element {
  return (
    // A region that scrolls must be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className={charts.scroller} tabIndex={0} role="region" aria-label="Over time as a table">
      <table className={charts.table}>
        <thead>
          <tr>
            <th scope="col">From</th>
            <th scope="col">Checks</th>
            <th scope="col">Allowed now</th>
            <th scope="col">Allowed then</th>
            <th scope="col">Denied now</th>
            <th scope="col">Denied then</th>
          </tr>
        </thead>
        <tbody>
          {steps.map(({ at, checks, allowed, denied }) => (
            <tr key={at}>
              <th scope="row">{formatDateTime(at)}</th>
              <td>{formatNumber(checks)}</td>
              <td>{formatNumber(allowed.old)}</td>
              <td>{formatNumber(allowed.new)}</td>
              <td>{formatNumber(denied.old)}</td>
              <td>{formatNumber(denied.new)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
