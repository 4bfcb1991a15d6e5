/** Check once, send many, keep sending; and how they ended. */
import { useState } from 'react';

import { Button } from '../../ui/Button';
import { Field } from '../../ui/Field';
import { formatCount } from '../check/words';
import styles from './Playground.module.css';
import type { Tally } from './record';
import { MAX_CHECKS, MAX_PER_SECOND } from './runs';
import type { Run } from './usePlayground';

/** The integer that `text` is, if it is from 1 to `max`. */
function bounded(text: string, max: number): number | null {
  const value = Number(text);
  return /^\d+$/.test(text.trim()) && value >= 1 && value <= max ? value : null;
}

interface AmountProps {
  label: string;
  value: string;
  max: number;
  isBad: boolean;
  onChange: (value: string) => void;
}

function Amount({ label, value, max, isBad, onChange }: AmountProps): React.JSX.Element {
  const error = isBad ? `Enter a number from 1 to ${formatCount(max)}.` : null;
  return <Field label={label} inputMode="numeric" value={value} onChange={onChange} error={error} />;
}

export interface RunControlsProps {
  run: Run | null;
  tally: Tally;
  onBegin: (run: Run) => void;
  onStop: () => void;
}

export function RunControls({ run, tally, onBegin, onStop }: RunControlsProps): React.JSX.Element {
  const [many, setMany] = useState('20');
  const [rate, setRate] = useState('5');
  const total = bounded(many, MAX_CHECKS);
  const perSecond = bounded(rate, MAX_PER_SECOND);
  const isMany = run?.kind === 'many';
  const isSteady = run?.kind === 'steady';
  const isBusy = isMany || isSteady;
  return (
    <div className={styles.runs}>
      <Button type="submit" variant="primary" isDisabled={isBusy}>
        Check
      </Button>
      <div className={styles.runRow}>
        <Amount label="Checks" value={many} max={MAX_CHECKS} isBad={total === null} onChange={setMany} />
        {/* One button starts and stops a run, so that the focus stays where it is. */}
        <Button
          isDisabled={(isBusy && !isMany) || total === null}
          variant={isMany ? 'danger' : 'secondary'}
          onPress={() => {
            if (isMany) onStop();
            else if (total !== null) onBegin({ kind: 'many', total });
          }}
        >
          {isMany ? 'Stop' : `Send ${total === null ? '' : formatCount(total)}`}
        </Button>
      </div>
      <div className={styles.runRow}>
        <Amount
          label="Checks a second"
          value={rate}
          max={MAX_PER_SECOND}
          isBad={perSecond === null}
          onChange={setRate}
        />
        <Button
          isDisabled={(isBusy && !isSteady) || perSecond === null}
          variant={isSteady ? 'danger' : 'secondary'}
          onPress={() => {
            if (isSteady) onStop();
            else if (perSecond !== null) onBegin({ kind: 'steady', perSecond });
          }}
        >
          {isSteady ? 'Stop' : 'Keep sending'}
        </Button>
      </div>
      <TallyBar tally={tally} />
    </div>
  );
}

function TallyBar({ tally: { allowed, denied } }: { tally: Tally }): React.JSX.Element | null {
  const sum = allowed + denied;
  if (sum === 0) return null;
  return (
    <div className={styles.tally}>
      <svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
        <rect className={styles.tallyDenied} width="100" height="4" />
        <rect className={styles.tallyAllowed} width={(100 * allowed) / sum} height="4" />
      </svg>
      <span>
        {formatCount(allowed)} allowed, {formatCount(denied)} denied here
      </span>
    </div>
  );
}
