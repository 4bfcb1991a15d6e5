/** Says that there is nothing, and what would change that. */
import type { ReactNode } from 'react';

import styles from './EmptyState.module.css';

export function EmptyState({ title, children }: { title: string; children?: ReactNode }): React.JSX.Element {
  return (
    <div className={styles.empty}>
      <p className={styles.title}>{title}</p>
      {children !== undefined && <div className={styles.hint}>{children}</div>}
    </div>
  );
}
