/** A colour beside words that say the same. */
import { cx } from './cx';
import styles from './StatusDot.module.css';

export type Tone = 'ok' | 'warn' | 'bad' | 'neutral';

export function StatusDot({ tone }: { tone: Tone }): React.JSX.Element {
  return <span aria-hidden="true" className={cx(styles.dot, styles[tone])} />;
}
