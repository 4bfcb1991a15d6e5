/** The playground: ask the limiter, and see the window that it decides by. Works without a token. */
import { useCallback, useState } from 'react';

import { apiUrl } from '../../api/client';
import { CopyButton } from '../../ui/CopyButton';
import { Panel } from '../../ui/Panel';
import { checkOf, curlOf, type CheckForm } from '../check/check';
import { CheckPanel } from './CheckPanel';
import { LimitsPanel } from './LimitsPanel';
import { OutcomePanel } from './OutcomePanel';
import styles from './Playground.module.css';
import { bindingLimit, limitKey, type Outcome } from './record';
import { usePlayground } from './usePlayground';
import { WindowPanel } from './WindowPanel';

/** The limit whose window is shown: the chosen one while the decision meets it, else the one that decided. */
function shownKey(last: Outcome | null, chosen: string | null): string | null {
  if (last === null) return null;
  const windows = last.decision.limits.filter(({ windowSeconds }) => windowSeconds !== null);
  const keys = windows.map((limit) => limitKey(limit, last.check));
  if (chosen !== null && keys.includes(chosen)) return chosen;
  const binding = bindingLimit(last.decision);
  if (binding === null) return null;
  // A limit of concurrency has no window.
  const key = limitKey(binding, last.check);
  return keys.includes(key) ? key : (keys[0] ?? null);
}

export default function PlaygroundPage(): React.JSX.Element {
  const { state, run, error, start, stop } = usePlayground();
  const [curl, setCurl] = useState('');
  const [chosen, setChosen] = useState<string | null>(null);
  const onForm = useCallback((form: CheckForm) => {
    setCurl(curlOf(checkOf(form), apiUrl('/rate-limit/check')));
  }, []);
  const key = shownKey(state.last, chosen);
  return (
    <div className={styles.page}>
      <h1 className="visually-hidden">Playground</h1>
      <div className={styles.side}>
        <CheckPanel
          run={run}
          error={error}
          tally={state.tally}
          onForm={onForm}
          onStart={start}
          onStop={stop}
        />
        <Panel title="The same check in a terminal" actions={<CopyButton text={curl} />}>
          {/* A region that scrolls must be reachable by keyboard. */}
          {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
          <pre className={styles.curl} tabIndex={0} role="region" aria-label="curl command">
            {curl}
          </pre>
        </Panel>
      </div>
      <div className={styles.main}>
        <OutcomePanel last={state.last} isRunning={run !== null && run.kind !== 'one'} />
        {state.last !== null && (
          <>
            <WindowPanel
              window={key === null ? undefined : state.windows.get(key)}
              decision={state.last.decision}
            />
            <LimitsPanel last={state.last} shownKey={key} onChoose={setChosen} />
          </>
        )}
      </div>
    </div>
  );
}
