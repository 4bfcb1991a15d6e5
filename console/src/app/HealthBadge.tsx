/** The state of the server in a few words. What it means is in the banner. */
import { useHealth, type Readiness } from '../api/health';
import { StatusDot, type Tone } from '../ui/StatusDot';
import styles from './HealthBadge.module.css';
import { warningsOf } from './warnings';

interface Shown {
  tone: Tone;
  label: string;
}

/** `readiness` is undefined until the server has answered. */
function healthOf(readiness: Readiness | undefined, isOffline: boolean): Shown {
  if (isOffline) return { tone: 'bad', label: 'Offline' };
  if (readiness === undefined) return { tone: 'neutral', label: 'Connecting' };
  const [first] = warningsOf(readiness, isOffline);
  return first === undefined ? { tone: 'ok', label: 'Ready' } : { tone: 'warn', label: first.label };
}

export function HealthBadge(): React.JSX.Element {
  const { readiness, isOffline } = useHealth();
  const { tone, label } = healthOf(readiness, isOffline);
  return (
    <div className={styles.badge} role="status" aria-label="Health of the server">
      <StatusDot tone={tone} />
      <span>{label}</span>
    </div>
  );
}
