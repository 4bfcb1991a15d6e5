/** Says on every page what is wrong with the server and what that means; nothing while all is well. */
import { useHealth } from '../api/health';
import styles from './HealthBanner.module.css';
import { warningsOf } from './warnings';

export function HealthBanner(): React.JSX.Element {
  const { readiness, isOffline } = useHealth();
  const warnings = warningsOf(readiness, isOffline);
  return (
    <div className={styles.banner} role="status" aria-label="Warnings">
      {warnings.map(({ title, detail }) => (
        <p key={title} className={styles.warning}>
          <strong>{title}</strong> {detail}
        </p>
      ))}
    </div>
  );
}
