/** How much of a limit is used. It only repeats a figure that stands beside it. */
import { cx } from './cx';
import styles from './UsageBar.module.css';

export interface UsageBarProps {
  /** Null while it is not known. */
  count: number | null;
  limit: number | null;
}

/** The part of `limit` that is used, from 0 to 1. */
export function usedShare({ count, limit }: UsageBarProps): number {
  if (count === null || limit === null) return 0;
  // A limit of 0 is used up by nothing.
  return limit === 0 ? 1 : Math.min(1, count / limit);
}

export function UsageBar(props: UsageBarProps): React.JSX.Element {
  const share = usedShare(props);
  return (
    <svg className={styles.bar} viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
      <rect className={styles.all} width="100" height="4" />
      <rect className={cx(share < 1 ? styles.used : styles.full)} width={100 * share} height="4" />
    </svg>
  );
}
