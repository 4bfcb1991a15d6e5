/** One or two words that stand out. */
import type { ReactNode } from 'react';

import { cx } from './cx';
import styles from './Badge.module.css';
import type { Tone } from './StatusDot';

export function Badge({
  tone = 'neutral',
  children,
}: {
  tone?: Tone;
  children: ReactNode;
}): React.JSX.Element {
  return <span className={cx(styles.badge, styles[tone])}>{children}</span>;
}
