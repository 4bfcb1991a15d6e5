/** The last quarter of an hour in four charts, and in a table for those who read rather than look. */
import { useMemo } from 'react';

import { cx } from '../../ui/cx';
import { formatTime } from '../../ui/time';
import { Chart } from './Chart';
import type { Figures } from './feed';
import styles from './Charts.module.css';
import type { Line } from './plot';
import {
  degradedPeriods,
  latencyValues,
  minutesOf,
  NO_POLICY,
  policyValues,
  rateValues,
  restValues,
  valuesOf,
  type DegradedPeriod,
} from './series';
import { formatMicros, formatMinute, formatNumber, formatRate, partsInWords } from './words';

const SOLID: readonly number[] = [];
const DASHED = [6, 4];
const DOTTED = [2, 3];
/** The looks of policies, by their places. */
const POLICY_LOOKS = [
  { color: '--series-1', dash: SOLID },
  { color: '--series-2', dash: DASHED },
  { color: '--series-3', dash: SOLID },
  { color: '--series-4', dash: DASHED },
  { color: '--series-5', dash: SOLID },
] as const;

function outcomeLines({ samples }: Figures): Line[] {
  return [
    { label: 'Allowed', color: '--ok-fill', dash: SOLID, values: rateValues(samples, 'allowed') },
    { label: 'Denied', color: '--bad-fill', dash: DASHED, values: rateValues(samples, 'denied') },
  ];
}

function policyLines({ samples, places }: Figures): Line[] {
  const named = new Set(places.filter((id) => id !== null));
  const lines: Line[] = [];
  for (const [place, look] of POLICY_LOOKS.entries()) {
    const id = places[place] ?? null;
    if (id === null) continue;
    const label = id === NO_POLICY ? 'no limit' : id;
    lines.push({ ...look, label, values: policyValues(samples, id) });
  }
  const rest = restValues(samples, named);
  const hasRest = rest.some((value) => value !== null && value > 0);
  if (hasRest) lines.push({ label: 'all others', color: '--series-rest', dash: DOTTED, values: rest });
  return lines;
}

function latencyLines({ samples }: Figures): Line[] {
  return [
    { label: 'p50', color: '--series-1', dash: SOLID, values: latencyValues(samples, 'p50') },
    { label: 'p95', color: '--series-2', dash: DASHED, values: latencyValues(samples, 'p95') },
    { label: 'p99', color: '--series-4', dash: DOTTED, values: latencyValues(samples, 'p99') },
  ];
}

function keyLines({ samples }: Figures): Line[] {
  return [{ label: 'Keys', color: '--series-1', dash: SOLID, values: valuesOf(samples, ({ keys }) => keys) }];
}

export function Charts({ figures, isStale }: { figures: Figures; isStale: boolean }): React.JSX.Element {
  const { samples } = figures;
  const shown = useMemo(
    () => ({
      times: figures.samples.map(({ at }) => at),
      periods: degradedPeriods(figures.samples),
      outcomes: outcomeLines(figures),
      policies: policyLines(figures),
      latencies: latencyLines(figures),
      keys: keyLines(figures),
    }),
    [figures],
  );
  const { times, periods } = shown;
  const common = { times, periods };
  return (
    <section aria-label="The last 15 minutes" className={styles.section}>
      <h2 className="visually-hidden">The last 15 minutes</h2>
      <div className={cx(styles.charts, isStale && styles.stale)}>
        <Chart {...common} title="Decisions a second" lines={shown.outcomes} format={formatRate} />
        <Chart {...common} title="Decisions a second by policy" lines={shown.policies} format={formatRate} />
        <Chart {...common} title="Time to decide" lines={shown.latencies} format={formatMicros} isLog />
        <Chart {...common} title="Keys held" lines={shown.keys} format={formatNumber} />
      </div>
      <Periods periods={periods} />
      <details className={styles.details}>
        <summary>The last 15 minutes as a table</summary>
        <MinutesTable minutes={minutesOf(samples)} />
      </details>
    </section>
  );
}

function Periods({ periods }: { periods: readonly DegradedPeriod[] }): React.JSX.Element | null {
  if (periods.length === 0) return null;
  return (
    <div className={styles.periods}>
      <span className={styles.shade} aria-hidden="true" />
      <p>
        Shaded:{' '}
        {periods
          .map(
            ({ from, to, parts }) =>
              `${partsInWords(parts)} unavailable from ${formatTime(from)} to ${formatTime(to)}`,
          )
          .join('; ')}
        .
      </p>
    </div>
  );
}

function MinutesTable({ minutes }: { minutes: ReturnType<typeof minutesOf> }): React.JSX.Element {
  return (
    // A region that scrolls must be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className={styles.scroller} tabIndex={0} role="region" aria-label="The last 15 minutes as a table">
      <table className={styles.table}>
        <thead>
          <tr>
            <th scope="col">Minute</th>
            <th scope="col">Allowed a second</th>
            <th scope="col">Denied a second</th>
            <th scope="col">Worst p99</th>
            <th scope="col">Keys</th>
            <th scope="col">Unavailable</th>
          </tr>
        </thead>
        <tbody>
          {minutes.map((minute) => (
            <tr key={minute.at}>
              <th scope="row">{formatMinute(minute.at)}</th>
              <td>{formatRate(minute.allowed)}</td>
              <td>{formatRate(minute.denied)}</td>
              <td>{formatMicros(minute.p99Micros)}</td>
              <td>{formatNumber(minute.keys)}</td>
              <td>{partsInWords(minute.degraded)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
