/** The last decision, large: whether the check was allowed, by which limit, and when it will be. */
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
          : 'Denied'
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
        <EmptyState title="Would this request be allowed now?">
          Press Check to ask the limiter. Then send more checks until one is denied, and watch each allowed
          one leave the window again.
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
        <p className={cx(styles.verdict, decision.allowed ? styles.allowed : styles.denied)}>
          {decision.allowed ? 'ALLOWED' : 'DENIED'}
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
          <strong>The store is unavailable,</strong> so the failure mode decided. This check was not counted,
          and usage is unknown.
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
  // Without the store nobody knows what others have used.
  const isUsageKnown = !decision.degraded || decision.count > 0;
  return (
    <dl className={styles.figures}>
      <div>
        <dt>Used</dt>
        <dd>
          {isUsageKnown ? formatCount(decision.count) : 'unknown'}
          <small>
            {' '}
            of {formatCount(decision.limit ?? 0)} {unitInWords(decision.unit, decision.limit ?? 0)}
          </small>
        </dd>
      </div>
      <div>
        <dt>Remaining</dt>
        <dd>{isUsageKnown ? formatCount(decision.remaining ?? 0) : 'unknown'}</dd>
      </div>
      <div>
        <dt>{decision.allowed ? 'Unused again in' : 'The same check is allowed in'}</dt>
        <dd>
          {decision.allowed && <Countdown deadline={arrivedAt + resetAfterMs} done="unused now" />}
          {!decision.allowed && retryAfterMs === null && 'never'}
          {!decision.allowed && retryAfterMs !== null && (
            <Countdown deadline={arrivedAt + retryAfterMs} done="allowed now" />
          )}
        </dd>
      </div>
    </dl>
  );
}
