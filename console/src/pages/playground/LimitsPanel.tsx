/** Every limit that took part in the last decision. */
import { Button } from '../../ui/Button';
import { cx } from '../../ui/cx';
import { Panel } from '../../ui/Panel';
import { formatDuration, formatWindow } from '../../ui/time';
import { UsageBar } from '../../ui/UsageBar';
import { formatCount, scopeInWords, unitInWords, type Limit } from '../check/words';
import styles from './Limits.module.css';
import { limitKey, type Outcome } from './record';

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
        <p className={styles.none}>No limit took part.</p>
      ) : (
        // A region that scrolls must be reachable by keyboard.
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div className={styles.scroller} tabIndex={0} role="region" aria-label="Limits">
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
                return (
                  <Row key={key} limit={limit} isShown={key === shownKey} onChoose={() => onChoose(key)} />
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
  if (limit.allowed) return 'admits';
  const verb = limit.mode === 'shadow' ? 'would deny (shadow)' : 'denies';
  return limit.retryAfterMs === null
    ? `${verb}, for good`
    : `${verb} for ${formatDuration(limit.retryAfterMs)}`;
}

function Row({
  limit,
  isShown,
  onChoose,
}: {
  limit: Limit;
  isShown: boolean;
  onChoose: () => void;
}): React.JSX.Element {
  return (
    <tr>
      <th scope="row">
        <code>{limit.policyId}</code>
        <span className={styles.scope}>{scopeInWords(limit.scope)}</span>
      </th>
      <td className={styles.usage}>
        <UsageBar count={limit.count} limit={limit.limit} />
        {formatCount(limit.count)} of {formatCount(limit.limit)} {unitInWords(limit.unit, limit.limit)}
      </td>
      <td className={styles.end}>{formatCount(limit.remaining)}</td>
      <td>
        {formatWindow(limit.windowSeconds)}, {limit.algorithm === 'sliding_window_log' ? 'log' : 'counter'}
      </td>
      <td className={cx(limit.allowed ? styles.admits : styles.denies)}>{verdictOf(limit)}</td>
      <td>
        <Button
          variant="quiet"
          isDisabled={isShown}
          aria-label={`Show the window of ${limit.policyId}`}
          onPress={onChoose}
        >
          {isShown ? 'Shown' : 'Show'}
        </Button>
      </td>
    </tr>
  );
}
