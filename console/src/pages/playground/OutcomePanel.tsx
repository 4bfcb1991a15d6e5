/** The last decision, large: whether it passed, by which limit, and when it would. */
import { useEffect, useState } from 'react';
import { Link } from 'react-router';

import { Countdown } from '../../ui/Countdown';
import { cx } from '../../ui/cx';
import { EmptyState } from '../../ui/EmptyState';
import { formatDuration } from '../../ui/time';
import { carryApiKey } from '../check/carriedKey';
import { formOfCheck, queryOfForm, type Check } from '../check/check';
import {
  announcementOf,
  formatCount,
  limitInWords,
  reasonInWords,
  unitInWords,
  type Decision,
} from '../check/words';
import styles from './Outcome.module.css';
import { bindingLimit, type Outcome } from './record';

/** While many answers come, a reader is told this seldom. */
const ANNOUNCED_AFTER_MS = 800;

function useAnnouncement(last: Outcome | null, isRunning: boolean): string {
  const [said, setSaid] = useState('');
  // During a run only a change of the verdict is news.
  const news =
    last === null
      ? ''
      : isRunning
        ? last.decision.allowed
          ? 'Allowed'
          : 'Blocked'
        : announcementOf(last.decision);
  useEffect(() => {
    const timer = window.setTimeout(() => setSaid(news), isRunning ? ANNOUNCED_AFTER_MS : 0);
    return () => window.clearTimeout(timer);
  }, [news, last, isRunning]);
  return said;
}

export function OutcomePanel({
  last,
  isRunning,
}: {
  last: Outcome | null;
  isRunning: boolean;
}): React.JSX.Element {
  const said = useAnnouncement(last, isRunning);
  return (
    <section className={styles.panel} aria-label="Decision">
      <p className="visually-hidden" aria-live="polite">
        {said}
      </p>
      {last === null ? (
        <EmptyState title="May this request reach the model now?">
          Press Check to ask the limiter. Then send more until it blocks, and watch each admission leave the
          window exactly one window after it was made.
        </EmptyState>
      ) : (
        <Verdict last={last} />
      )}
    </section>
  );
}

function Verdict({ last }: { last: Outcome }): React.JSX.Element {
  const { decision } = last;
  const binding = bindingLimit(decision);
  const reason = reasonInWords(decision);
  return (
    <>
      <div className={styles.head}>
        <p className={cx(styles.verdict, decision.allowed ? styles.allowed : styles.blocked)}>
          {decision.allowed ? 'ALLOWED' : 'BLOCKED'}
        </p>
        <div className={styles.why}>
          {binding === null ? (
            <p>{reason ?? 'No policy limits this check.'}</p>
          ) : (
            <p>
              Policy <code>{binding.policyId}</code>: {limitInWords(binding)}.
            </p>
          )}
          {binding !== null && reason !== null && <p className={styles.reason}>{reason}</p>}
        </div>
        <div className={styles.took}>
          <p title="From sending the check to the arrival of the answer, in this browser">
            answered in {formatDuration(last.tookMs)}
          </p>
          <ExplainLink check={last.check} />
        </div>
      </div>
      {decision.degraded && (
        <p className={styles.degraded}>
          <strong>Degraded:</strong> the store did not answer in time, so the failure mode decided. This check
          was not counted there, and the window below does not hold it.
        </p>
      )}
      {decision.limit !== null && <Figures last={last} decision={decision} />}
    </>
  );
}

function ExplainLink({ check }: { check: Check }): React.JSX.Element {
  const form = formOfCheck(check);
  return (
    <Link to={`/explain?${queryOfForm(form).toString()}`} onClick={() => carryApiKey(form)}>
      Explain this
    </Link>
  );
}

function Figures({ last, decision }: { last: Outcome; decision: Decision }): React.JSX.Element {
  const { arrivedAt } = last;
  const { retryAfterMs, resetAfterMs } = decision;
  return (
    <dl className={styles.figures}>
      <div>
        <dt>Used</dt>
        <dd>
          {formatCount(decision.count)}
          <small>
            {' '}
            of {formatCount(decision.limit ?? 0)} {unitInWords(decision.unit, decision.limit ?? 0)}
          </small>
        </dd>
      </div>
      <div>
        <dt>Remaining</dt>
        <dd>{formatCount(decision.remaining ?? 0)}</dd>
      </div>
      <div>
        <dt>{decision.allowed ? 'Empty again in' : 'The same check passes in'}</dt>
        <dd>
          {decision.allowed && <Countdown deadline={arrivedAt + resetAfterMs} done="empty now" />}
          {!decision.allowed && retryAfterMs === null && 'never'}
          {!decision.allowed && retryAfterMs !== null && (
            <Countdown deadline={arrivedAt + retryAfterMs} done="would pass now" />
          )}
        </dd>
      </div>
    </dl>
  );
}
