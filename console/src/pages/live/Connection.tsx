/** Whether the page is connected to the stream of decisions; if not, why, and when it tries again. */
import { get } from 'react-hook-form';

import type { EventFilter } from '../../api/events';
import type { StreamState } from '../../api/listen';
import { ProblemError } from '../../api/problem';
import { Button } from '../../ui/Button';
import { Countdown } from '../../ui/Countdown';
import { describeError } from '../../ui/errors';
import { Notice } from '../../ui/Notice';
import { StatusDot, type Tone } from '../../ui/StatusDot';
import { problemInWords } from '../records/fieldWords';
import styles from './Connection.module.css';
import { formatNumber } from './words';

const WORDS: Readonly<Record<StreamState['kind'], { tone: Tone; label: string }>> = {
  connecting: { tone: 'neutral', label: 'Connecting' },
  open: { tone: 'ok', label: 'Connected' },
  lagging: { tone: 'warn', label: 'Connected, but lagging' },
  broken: { tone: 'bad', label: 'Disconnected' },
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
  if (error instanceof ProblemError && error.errors.length > 0) {
    return { title: 'This filter does not work', detail: null };
  }
  if (error instanceof ProblemError && error.status === 503) {
    const detail =
      'At most 16 tabs or programs can watch the decisions of one server. Close another tab that shows this page.';
    return { title: 'Too many viewers', detail };
  }
  if (error instanceof ProblemError && error.status === 404) {
    const detail = 'It is older than this console, or a proxy in front of it blocks the request.';
    return { title: 'This server does not support live decisions', detail };
  }
  return describeError(error);
}

export function ConnectionNotice({
  state,
  filter,
  onTryNow,
}: {
  state: StreamState;
  filter: EventFilter;
  onTryNow: () => void;
}): React.JSX.Element | null {
  if (state.kind === 'lagging') {
    return (
      <Notice tone="warn">
        <p>
          {formatNumber(state.skipped)} decisions were skipped because this page or the network is too slow.
          Use a filter to see fewer of them. The rates still count all decisions.
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
      {fields.map((problem) => (
        <p key={`${problem.field} ${problem.problem}`}>
          Filter <code>{problem.field}</code>:{' '}
          {problemInWords(problem.field, get(filter, problem.field), problem)}
        </p>
      ))}
      <div className={styles.retry}>
        {state.retryAt !== null && (
          <p aria-hidden="true">
            Reconnecting in <Countdown deadline={state.retryAt} done="now" />
          </p>
        )}
        <Button onPress={onTryNow}>{state.retryAt === null ? 'Try again' : 'Reconnect now'}</Button>
      </div>
    </Notice>
  );
}
