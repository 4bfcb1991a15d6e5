/** Holds the place of what is being loaded. */
import styles from './Skeleton.module.css';

export function Skeleton({
  lines = 1,
  label = 'Loading',
}: {
  lines?: number;
  label?: string;
}): React.JSX.Element {
  return (
    <div className={styles.skeleton} role="status">
      <span className="visually-hidden">{label}</span>
      {Array.from({ length: lines }, (_, line) => (
        <span key={line} className={styles.line} aria-hidden="true" />
      ))}
    </div>
  );
}
