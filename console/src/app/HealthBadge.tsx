/** Whether the server is well, and which part is not. */
import { useReadiness, type Readiness } from '../api/health';
import { StatusDot, type Tone } from '../ui/StatusDot';
import styles from './HealthBadge.module.css';

interface Health {
  tone: Tone;
  label: string;
  details: string[];
}

function isDegraded([, part]: [string, { status: string }]): boolean {
  return part.status !== 'ok';
}

/** What the badge says of `readiness`, which is undefined while the server has not answered yet. */
export function healthOf(readiness: Readiness | undefined, offline: boolean): Health {
  if (offline) return { tone: 'bad', label: 'Offline', details: ['The server does not answer.'] };
  if (readiness === undefined) return { tone: 'neutral', label: 'Connecting', details: [] };
  const degraded = Object.entries(readiness.parts).filter(isDegraded);
  const details = degraded.map(([name, part]) => `${name}: ${part.detail ?? 'degraded'}`);
  if (readiness.status === 'draining') return { tone: 'warn', label: 'Draining', details };
  if (degraded.length > 0) {
    const names = degraded.map(([name]) => name).join(' and ');
    return { tone: 'warn', label: `Degraded: ${names}`, details };
  }
  return { tone: 'ok', label: 'Ready', details: [] };
}

export function HealthBadge(): React.JSX.Element {
  const { data, isError } = useReadiness();
  const health = healthOf(data, isError);
  return (
    <div className={styles.badge} role="status" aria-label="Health of the server">
      <StatusDot tone={health.tone} />
      <span>
        {health.label}
        {health.details.map((detail) => (
          <span key={detail} className={styles.detail}>
            {detail}
          </span>
        ))}
      </span>
    </div>
  );
}
