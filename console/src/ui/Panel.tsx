/** A region with a heading. */
import { useId, type ReactNode } from 'react';

import { cx } from './cx';
import styles from './Panel.module.css';

export interface PanelProps {
  title: string;
  /** What stands at the right of the heading. */
  actions?: ReactNode;
  className?: string | undefined;
  children: ReactNode;
}

export function Panel({ title, actions, className, children }: PanelProps): React.JSX.Element {
  const id = useId();
  return (
    <section className={cx(styles.panel, className)} aria-labelledby={id}>
      <div className={styles.head}>
        <h2 id={id}>{title}</h2>
        {actions}
      </div>
      {children}
    </section>
  );
}
