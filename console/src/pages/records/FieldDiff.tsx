/** Two versions of a record side by side; what is the same in both is folded away. */
import { Badge } from '../../ui/Badge';
import { cx } from '../../ui/cx';
import type { Tone } from '../../ui/StatusDot';
import { compare, type ComparedField, type Difference } from './compare';
import styles from './FieldDiff.module.css';

const TONE: Readonly<Record<Difference, Tone>> = {
  same: 'neutral',
  added: 'ok',
  removed: 'bad',
  changed: 'warn',
};

export interface FieldDiffProps {
  label: string;
  beforeLabel: string;
  afterLabel: string;
  before: object | null;
  after: object | null;
  /** The word for each difference, where `added` and the like do not fit. */
  words?: Partial<Record<Difference, string>>;
}

export function FieldDiff(props: FieldDiffProps): React.JSX.Element {
  const { before, after } = props;
  const fields = compare(before, after);
  const differing = fields.filter(({ difference }) => difference !== 'same');
  const same = fields.filter(({ difference }) => difference === 'same');
  return (
    <div className={styles.diff}>
      {differing.length > 0 && <Fields {...props} fields={differing} />}
      {differing.length === 0 && <p>No field is different.</p>}
      {same.length > 0 && (
        <details className={styles.same}>
          <summary>{same.length === 1 ? '1 unchanged field' : `${same.length} unchanged fields`}</summary>
          <dl>
            {same.map(({ path, after: value }) => (
              <div key={path}>
                <dt>{path}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </div>
  );
}

function Fields({
  label,
  beforeLabel,
  afterLabel,
  words = {},
  fields,
}: FieldDiffProps & { fields: readonly ComparedField[] }): React.JSX.Element {
  return (
    <table className={styles.table} aria-label={label}>
      <thead>
        <tr>
          <th scope="col">Field</th>
          <th scope="col">{beforeLabel}</th>
          <th scope="col">{afterLabel}</th>
        </tr>
      </thead>
      <tbody>
        {fields.map(({ path, before, after, difference }) => (
          <tr key={path}>
            <th scope="row">
              {path} <Badge tone={TONE[difference]}>{words[difference] ?? difference}</Badge>
            </th>
            <td data-label={beforeLabel} className={cx(before !== null && styles.old)}>
              {before ?? 'not set'}
            </td>
            <td data-label={afterLabel} className={cx(after !== null && styles.now)}>
              {after ?? 'not set'}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
