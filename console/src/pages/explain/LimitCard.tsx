/** One limit that takes part: what it does, its usage now, and when there is room again. */
import { memo } from 'react';

import { Badge } from '../../ui/Badge';
import { Countdown } from '../../ui/Countdown';
import type { Tone } from '../../ui/StatusDot';
import { UsageBar } from '../../ui/UsageBar';
import styles from './LimitCard.module.css';
import type { Considered } from './explanation';
import { effectOf, shareInWords, usageInWords, verdictOf, type Verdict } from './explanationWords';
import { PolicyLink } from './PolicyLink';
import type { Explained } from './useExplanation';

const TONES: Readonly<Record<Verdict, Tone>> = { allows: 'ok', denies: 'bad', 'would deny': 'warn' };

export interface LimitCardProps {
  considered: Considered;
  explained: Explained;
}

export const LimitCard = memo(function LimitCard(props: LimitCardProps): React.JSX.Element {
  const { considered, explained } = props;
  const { answer } = considered;
  const verdict = verdictOf(considered);
  const effect = effectOf(considered);
  const usage = usageInWords(considered, explained.explanation.degraded);
  const share = shareInWords(considered, explained.explanation.priority);
  return (
    <div className={styles.card}>
      <div className={styles.line}>
        <PolicyLink considered={considered} />
        {answer.limit !== null && <Badge tone={TONES[verdict]}>{verdict}</Badge>}
      </div>
      {effect !== null && <p className={styles.effect}>{effect}</p>}
      {usage !== null && (
        <>
          <UsageBar count={answer.count} limit={answer.limit} />
          <div className={styles.line}>
            <span>{usage}</span>
            <When considered={considered} arrivedAt={explained.arrivedAt} />
          </div>
        </>
      )}
      {share !== null && <p className={styles.note}>{share}</p>}
      {answer.key !== null && (
        <p className={styles.note}>
          {answer.key === '' ? (
            'Counts all checks together'
          ) : (
            <>
              Counted for <code>{answer.key}</code>
            </>
          )}
        </p>
      )}
    </div>
  );
});

interface WhenProps {
  considered: Considered;
  arrivedAt: number;
}

/** When the limit would allow the check; if it does now, when its usage would be 0 again. */
function When({ considered: { answer }, arrivedAt }: WhenProps): React.JSX.Element | null {
  const { limit, count, retryAfterMs, resetAfterMs } = answer;
  if (limit === null || count === null) return null;
  if (retryAfterMs === null) return <span className={styles.when}>never allowed</span>;
  if (retryAfterMs > 0) {
    return (
      <span className={styles.when}>
        <Countdown deadline={arrivedAt + retryAfterMs} lead="allowed again in " done="allowed now" />
      </span>
    );
  }
  if (count === 0 || resetAfterMs === null) return <span className={styles.when}>unused</span>;
  return (
    <span className={styles.when}>
      <Countdown deadline={arrivedAt + resetAfterMs} lead="unused in " done="unused now" />
    </span>
  );
}
