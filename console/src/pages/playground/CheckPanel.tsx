/** The form of a check, and the buttons that send it. */
import { useEffect, useState } from 'react';

import { ErrorState } from '../../ui/ErrorState';
import { Panel } from '../../ui/Panel';
import { checkOf, type Check, type CheckForm } from '../check/check';
import { CheckFields } from '../check/CheckFields';
import { useCheckForm, useComplaints } from '../check/useCheckForm';
import styles from './Playground.module.css';
import type { Tally } from './record';
import { RunControls } from './RunControls';
import type { Run } from './usePlayground';

export interface CheckPanelProps {
  run: Run | null;
  error: unknown;
  tally: Tally;
  onForm: (form: CheckForm) => void;
  onStart: (run: Run, check: Check) => void;
  onStop: () => void;
}

export function CheckPanel({
  run,
  error,
  tally,
  onForm,
  onStart,
  onStop,
}: CheckPanelProps): React.JSX.Element {
  const { form, values } = useCheckForm();
  const [isRefused, setRefused] = useState(false);
  useEffect(() => onForm(values), [onForm, values]);
  const isAtFields = useComplaints(form, error);
  const begin = (next: Run): void => {
    const valid = (given: CheckForm): void => {
      setRefused(false);
      onStart(next, checkOf(given));
    };
    void form.handleSubmit(valid, () => setRefused(true))();
  };

  return (
    <Panel title="Check">
      <form
        className={styles.form}
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          begin({ kind: 'one' });
        }}
      >
        <CheckFields control={form.control} values={values} isWrong={isAtFields || isRefused} />
        <RunControls run={run} tally={tally} onBegin={begin} onStop={onStop} />
      </form>
      {error !== null && !isAtFields && (
        <div className={styles.problem}>
          <ErrorState error={error} />
        </div>
      )}
    </Panel>
  );
}
