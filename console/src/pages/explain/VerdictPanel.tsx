/** Whether the check would be allowed now, large, and the limit that decides. */
import { useMemo } from 'react';

import { cx } from '../../ui/cx';
import type { Policy } from '../policies/policy';
import styles from './Explain.module.css';
import { groupsOf } from './explanation';
import { verdictInWords } from './explanationWords';
import { LimitCard } from './LimitCard';
import type { Explained } from './useExplanation';

export interface VerdictPanelProps {
  explained: Explained;
  policies: ReadonlyMap<string, Policy>;
}

export function VerdictPanel({ explained, policies }: VerdictPanelProps): React.JSX.Element {
  const { explanation } = explained;
  const { decides } = useMemo(() => groupsOf(explanation, policies), [explanation, policies]);
  const verdict = explanation.allowed ? 'would be allowed' : 'would be denied';
  return (
    <section className={styles.verdict} aria-label="Verdict">
      <div className={styles.verdictHead} role="status">
        <p className={cx(styles.outcome, explanation.allowed ? styles.allowed : styles.denied)}>{verdict}</p>
        <p className={styles.why}>{verdictInWords(explanation, decides)}</p>
      </div>
      {decides !== null && <LimitCard considered={decides} explained={explained} />}
    </section>
  );
}
