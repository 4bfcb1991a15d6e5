/** The check that is explained. */
import { useState } from 'react';
import type { UseFormReturn } from 'react-hook-form';
import { Link } from 'react-router';

import { Button } from '../../ui/Button';
import { Panel } from '../../ui/Panel';
import { carryApiKey } from '../check/carriedKey';
import { queryOfForm, type CheckForm } from '../check/check';
import { CheckFields } from '../check/CheckFields';
import { useComplaints } from '../check/useCheckForm';
import styles from './Explain.module.css';

export interface AskPanelProps {
  form: UseFormReturn<CheckForm>;
  values: CheckForm;
  error: unknown;
  onAsk: (form: CheckForm) => void;
}

export function AskPanel({ form, values, error, onAsk }: AskPanelProps): React.JSX.Element {
  const [isRefused, setRefused] = useState(false);
  const isAtFields = useComplaints(form, error);
  const submit = form.handleSubmit(
    (asked) => {
      setRefused(false);
      onAsk(asked);
    },
    () => setRefused(true),
  );
  return (
    <Panel title="Check">
      <form className={styles.form} noValidate onSubmit={(event) => void submit(event)}>
        <CheckFields control={form.control} values={values} isWrong={isAtFields || isRefused} />
        <div className={styles.ask}>
          <Button type="submit" variant="primary">
            Explain
          </Button>
          <Link to={`/?${queryOfForm(values).toString()}`} onClick={() => carryApiKey(values)}>
            Try it in the playground
          </Link>
        </div>
        <p className={styles.note}>Nothing is charged. The usage is updated every two seconds.</p>
      </form>
    </Panel>
  );
}
