/** A line or two that stay on the page: why something cannot be done, or is not as it should be. */
import type { ReactNode } from 'react';

import { cx } from './cx';
import styles from './Notice.module.css';

export interface NoticeProps {
  tone?: 'info' | 'warn' | 'bad';
  children: ReactNode;
}

export function Notice({ tone = 'info', children }: NoticeProps): React.JSX.Element {
  return (
    <div className={cx(styles.notice, styles[tone])} role="status">
      {children}
    </div>
  );
}
