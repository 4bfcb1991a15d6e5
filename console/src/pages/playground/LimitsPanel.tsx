/** Every limit that applied to the last check. On a narrow page each is a card. */
import { Button } from '../../ui/Button';
import { cx } from '../../ui/cx';
import { Panel } from '../../ui/Panel';
import { formatDuration, formatWindow } from '../../ui/time';
import { UsageBar } from '../../ui/UsageBar';
import { formatCount, scopeInWords, unitInWords, type Limit } from '../check/words';
import styles from './Limits.module.css';
import { limitKey, type Outcome } from './record';

const ALGORITHMS: Readonly<Record<string, string>> = {
  sliding_window_log: 'log',
  sliding_window_counter: 'counter',
  token_bucket: 'token bucket',
  calendar: 'calendar',
};

export interface LimitsPanelProps {
  last: Outcome;
  /** The limit whose window is shown. */
  shownKey: string | null;
  onChoose: (key: string) => void;
}

export function LimitsPanel({ last, shownKey, onChoose }: LimitsPanelProps): React.JSX.Element {
  const { limits } = last.decision;
  return (
    <Panel title="All limits of this decision">
      {limits.length === 0 ? (
        <p className={styles.none}>No limit applies to this check.</p>
      ) : (
        <div className={styles.limits} role="region" aria-label="Limits">
          <table className={styles.table}>
            <thead>
              <tr>
                <th scope="col">Policy</th>
                <th scope="col">Usage</th>
                <th scope="col" className={styles.end}>
                  Left
                </th>
                <th scope="col">Window</th>
                <th scope="col">Verdict</th>
                <th scope="col">
                  <span className="visually-hidden">Timeline</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {limits.map((limit) => {
                const key = limitKey(limit, last.check);
                // Without the store nobody knows what others have used.
                const isUsageKnown = !last.decision.degraded || limit.count > 0;
                return (
                  <Row
                    key={key}
                    limit={limit}
                    isUsageKnown={isUsageKnown}
                    isShown={key === shownKey}
                    onChoose={() => onChoose(key)}
                  />
                );
              })}
            </tbody>
          </table>
        </div>
      )}
    </Panel>
  );
}

function verdictOf(limit: Limit): string {
  if (limit.allowed) return 'allows';
  const verb = limit.mode === 'shadow' ? 'would deny (shadow mode)' : 'denies';
  return limit.retryAfterMs === null
    ? `${verb}, always`
    : `${verb} for ${formatDuration(limit.retryAfterMs)}`;
}

function Row({
  limit,
  isUsageKnown,
  isShown,
  onChoose,
}: {
  limit: Limit;
  isUsageKnown: boolean;
  isShown: boolean;
  onChoose: () => void;
}): React.JSX.Element {
  return (
    <tr>
      <th scope="row">
        <code>{limit.policyId}</code>
        <span className={styles.scope}>{scopeInWords(limit.scope)}</span>
      </th>
      <td data-label="Usage" className={styles.usage}>
        <UsageBar count={isUsageKnown ? limit.count : null} limit={limit.limit} />
        <span>
          {isUsageKnown ? formatCount(limit.count) : 'unknown'} of {formatCount(limit.limit)}{' '}
          {unitInWords(limit.unit, limit.limit)}
        </span>
      </td>
      <td data-label="Left" className={styles.end}>
        {isUsageKnown ? formatCount(limit.remaining) : 'unknown'}
      </td>
      <td data-label="Window">
        {limit.windowSeconds === null
          ? 'leases alive now'
          : `${formatWindow(limit.windowSeconds)}, ${ALGORITHMS[limit.algorithm] ?? limit.algorithm}`}
      </td>
      <td data-label="Verdict" className={cx(limit.allowed ? styles.allows : styles.denies)}>
        {verdictOf(limit)}
      </td>
      <td>
        {limit.windowSeconds !== null && (
          <Button
            variant="quiet"
            isDisabled={isShown}
            aria-label={`Show the window of ${limit.policyId}`}
            onPress={onChoose}
          >
            {isShown ? 'Shown' : 'Show'}
          </Button>
        )}
      </td>
    </tr>
  );
}
