/** Whether the page hears the server; where it does not, why, and when it asks again. */
import type { StreamState } from '../../api/listen';
import { ProblemError } from '../../api/problem';
import { Button } from '../../ui/Button';
import { Countdown } from '../../ui/Countdown';
import { describeError } from '../../ui/errors';
import { Notice } from '../../ui/Notice';
import { StatusDot, type Tone } from '../../ui/StatusDot';
import styles from './Connection.module.css';
import { formatNumber } from './words';

const WORDS: Readonly<Record<StreamState['kind'], { tone: Tone; label: string }>> = {
  connecting: { tone: 'neutral', label: 'Connecting' },
  open: { tone: 'ok', label: 'Listening' },
  lagging: { tone: 'warn', label: 'Listening, and lagging' },
  broken: { tone: 'bad', label: 'Not listening' },
};

export function ConnectionBadge({ state }: { state: StreamState }): React.JSX.Element {
  const { tone, label } = WORDS[state.kind];
  return (
    <p className={styles.badge} role="status" aria-label="Stream of decisions">
      <StatusDot tone={tone} />
      {label}
    </p>
  );
}

/** What went wrong, for a listener: some refusals mean more here than elsewhere. */
function wordsOf(error: unknown): { title: string; detail: string | null } {
  if (error instanceof ProblemError && error.status === 503) {
    const detail =
      'A server tells its decisions to 16 listeners at most. Close another tab that shows this page.';
    return { title: 'Too many listen already', detail };
  }
  if (error instanceof ProblemError && error.status === 404) {
    const detail = 'It is older than this console, or a proxy before it lets the call not pass.';
    return { title: 'This server does not tell its decisions', detail };
  }
  return describeError(error);
}

export function ConnectionNotice({
  state,
  onTryNow,
}: {
  state: StreamState;
  onTryNow: () => void;
}): React.JSX.Element | null {
  if (state.kind === 'lagging') {
    return (
      <Notice tone="warn">
        <p>
          {formatNumber(state.skipped)} decisions were skipped: this page or the network is too slow for all
          of them. A filter helps. The rates count all of them.
        </p>
      </Notice>
    );
  }
  if (state.kind !== 'broken') return null;
  const { title, detail } = wordsOf(state.error);
  const fields = describeError(state.error).fields;
  return (
    <Notice tone="bad">
      <p className={styles.title}>{title}</p>
      {detail !== null && <p>{detail}</p>}
      {fields.map(({ field, problem, accepted }) => (
        <p key={`${field} ${problem}`}>
          <code>{field}</code> {problem}
          {accepted !== '' && `; accepted: ${accepted}`}
        </p>
      ))}
      <div className={styles.retry}>
        {state.retryAt !== null && (
          <p aria-hidden="true">
            Trying again: <Countdown deadline={state.retryAt} done="now" />
          </p>
        )}
        <Button onPress={onTryNow}>{state.retryAt === null ? 'Try again' : 'Try now'}</Button>
      </div>
    </Notice>
  );
}
