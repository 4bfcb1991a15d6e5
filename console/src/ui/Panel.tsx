/** A region with a heading. */
import { useId, type ReactNode } from 'react';

import { cx } from './cx';
import styles from './Panel.module.css';

export interface PanelProps {
  title: string;
  /** 1 where the panel is all of the page. */
  level?: 1 | 2;
  /** What stands at the right of the heading. */
  actions?: ReactNode;
  className?: string | undefined;
  children: ReactNode;
}

export function Panel({ title, level = 2, actions, className, children }: PanelProps): React.JSX.Element {
  const Heading = level === 1 ? 'h1' : 'h2';
  const id = useId();
  return (
    <section className={cx(styles.panel, className)} aria-labelledby={id}>
      <div className={styles.head}>
        <Heading id={id}>{title}</Heading>
        {actions}
      </div>
      {children}
    </section>
  );
}
