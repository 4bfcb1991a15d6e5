/** Whom and what the server takes the check to be about. */
import { Panel } from '../../ui/Panel';
import styles from './Explain.module.css';
import { isHash, resolvedOf, type Resolved } from './explanationWords';
import type { Explained } from './useExplanation';

export function ResolvedPanel({ explained }: { explained: Explained }): React.JSX.Element {
  const lines = resolvedOf(explained.check, explained.explanation);
  const missing = lines.filter(({ value }) => value === null).map(({ name }) => name);
  return (
    <Panel title="Who this is">
      <dl className={styles.resolved}>
        {lines
          .filter(({ value }) => value !== null)
          .map((line) => (
            <Line key={line.name} line={line} />
          ))}
      </dl>
      {missing.length > 0 && (
        <p className={styles.note}>It has no {missing.join(', ')}: what needs one of these does not match.</p>
      )}
    </Panel>
  );
}

function Line({ line: { name, value, source } }: { line: Resolved }): React.JSX.Element {
  const isUnknown = isHash(value ?? '');
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <span className={styles.value}>{isUnknown ? `${value?.slice(0, 12) ?? ''}…` : value}</span>
        <small>{isUnknown ? 'hash: the catalog does not know it' : `from the ${source ?? 'check'}`}</small>
      </dd>
    </div>
  );
}
