/** Who and what the check is about, and where that is from. */
import { Panel } from '../../ui/Panel';
import styles from './Explain.module.css';
import { isHash, resolvedOf, type Resolved } from './explanationWords';
import type { Explained } from './useExplanation';

export function ResolvedPanel({ explained }: { explained: Explained }): React.JSX.Element {
  const lines = resolvedOf(explained.check, explained.explanation);
  const missing = lines.filter(({ value }) => value === null).map(({ name }) => name);
  return (
    <Panel title="Subject of the check">
      <dl className={styles.resolved}>
        {lines
          .filter(({ value }) => value !== null)
          .map((line) => (
            <Line key={line.name} line={line} />
          ))}
      </dl>
      {missing.length > 0 && (
        <p className={styles.note}>
          It has no {missing.join(', ')}. Policies that need one of these do not apply.
        </p>
      )}
    </Panel>
  );
}

function Line({ line: { name, value, source } }: { line: Resolved }): React.JSX.Element {
  const isLong = isHash(value ?? '');
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <span className={styles.value}>{isLong ? `${value?.slice(0, 12) ?? ''}…` : value}</span>
        <small>{source}</small>
      </dd>
    </div>
  );
}
