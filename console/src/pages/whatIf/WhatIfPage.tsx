/** What if: other policies against those in force, on recorded or uploaded traffic. Nothing is changed. */
import { useMutation } from '@tanstack/react-query';
import { useId, useState } from 'react';

import { Button } from '../../ui/Button';
import { cx } from '../../ui/cx';
import { ErrorState } from '../../ui/ErrorState';
import { Panel } from '../../ui/Panel';
import { SelectField } from '../../ui/SelectField';
import records from '../records/Records.module.css';
import { ComparisonReport } from './ComparisonReport';
import { compare, readPolicies, type PolicyFormat, type Question } from './whatIf';
import styles from './WhatIf.module.css';

const SOURCES = [
  { value: 'recorded', label: 'Traffic that this server records' },
  { value: 'file', label: 'A trace from a file' },
];

const FORMATS: { value: PolicyFormat; label: string }[] = [
  { value: 'yaml', label: 'YAML or JSON' },
  { value: 'toml', label: 'TOML' },
];

export default function WhatIfPage(): React.JSX.Element {
  const comparison = useMutation({ mutationFn: (question: Question) => compare(question) });
  return (
    <div className={records.page}>
      <h1>What if</h1>
      <p className={styles.about}>
        Compares other policies with those in force on real traffic: who would lose, who would gain, and how
        much. Nothing is changed.
      </p>
      <QuestionForm isPending={comparison.isPending} onAsk={(question) => comparison.mutate(question)} />
      {comparison.error !== null && <ErrorState error={comparison.error} />}
      {comparison.data !== undefined && <ComparisonReport report={comparison.data} />}
    </div>
  );
}

interface QuestionFormProps {
  isPending: boolean;
  onAsk: (question: Question) => void;
}

function QuestionForm({ isPending, onAsk }: QuestionFormProps): React.JSX.Element {
  const [policies, setPolicies] = useState('');
  const [source, setSource] = useState('recorded');
  const [file, setFile] = useState<File | null>(null);
  const [format, setFormat] = useState<PolicyFormat>('yaml');
  const insertion = useMutation({
    mutationFn: () => readPolicies(),
    onSuccess: (text) => {
      setPolicies(text);
      setFormat('yaml');
    },
  });
  const id = useId();
  const isComplete = policies.trim() !== '' && (source === 'recorded' || file !== null);
  const ask = async (): Promise<void> => {
    onAsk({ policies, format, trace: source === 'file' && file !== null ? await file.text() : null });
  };
  return (
    <Panel title="Compare">
      <div className={styles.form}>
        <SelectField label="Traffic" value={source} options={SOURCES} onChange={setSource} />
        {source === 'file' && (
          <div className={styles.field}>
            <label className={styles.label} htmlFor={`${id}-file`}>
              Trace, in CSV
            </label>
            <input
              id={`${id}-file`}
              type="file"
              accept=".csv,text/csv"
              onChange={(event) => setFile(event.target.files?.[0] ?? null)}
            />
          </div>
        )}
        <SelectField
          label="Format of the policies"
          value={format}
          options={FORMATS}
          onChange={(value) => setFormat(value === 'toml' ? 'toml' : 'yaml')}
        />
        <div className={styles.field}>
          <label className={styles.label} htmlFor={`${id}-policies`}>
            Policies in place of those in force, as a policy file
          </label>
          <textarea
            id={`${id}-policies`}
            className={cx(styles.policies)}
            spellCheck={false}
            value={policies}
            onChange={(event) => setPolicies(event.target.value)}
          />
        </div>
        {insertion.error !== null && <ErrorState error={insertion.error} />}
        <div className={styles.actions}>
          <Button isPending={insertion.isPending} onPress={() => insertion.mutate()}>
            Insert the policies in force
          </Button>
          <Button variant="primary" isPending={isPending} isDisabled={!isComplete} onPress={() => void ask()}>
            {isPending ? 'Comparing' : 'Compare'}
          </Button>
        </div>
      </div>
    </Panel>
  );
}
