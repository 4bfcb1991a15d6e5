/** How things are now, at a glance. */
import type { ReactNode } from 'react';

import type { PartStatus } from '../../api/events';
import { cx } from '../../ui/cx';
import { StatusDot } from '../../ui/StatusDot';
import type { Figures } from './feed';
import { deniedShare } from './series';
import styles from './Tiles.module.css';
import { formatNumber, formatRate, formatShare, UNKNOWN } from './words';

const SHARE_MS = 60_000;

/** `isStale`: there is no connection, so the last figures may be out of date. */
export function Tiles({ figures, isStale }: { figures: Figures; isStale: boolean }): React.JSX.Element {
  const { samples, latest } = figures;
  const rates = isStale ? null : (samples.at(-1)?.rates ?? null);
  const degraded = rates?.degraded ?? 0;
  return (
    <dl className={styles.tiles}>
      <Tile name="Allowed" unit="a second" value={formatRate(rates?.allowed ?? null)} />
      <Tile name="Denied" unit="a second" value={formatRate(rates?.denied ?? null)} />
      <Tile
        name="Denied share"
        unit="of the last minute"
        value={isStale ? UNKNOWN : formatShare(deniedShare(samples, SHARE_MS))}
      />
      <Tile
        name="Store"
        unit={degraded > 0 ? `${formatRate(degraded)} a second decided without it` : ''}
        value={<Health status={isStale ? null : (latest?.store ?? null)} degraded="Unavailable" />}
      />
      <Tile
        name="Catalog"
        unit=""
        value={<Health status={isStale ? null : (latest?.catalog ?? null)} degraded="Out of date" />}
      />
      <Tile name="Policies" unit="" value={formatNumber(latest?.policyCount ?? null)} />
      <Tile name="Keys held" unit="" value={formatNumber(isStale ? null : (latest?.keys ?? null))} />
    </dl>
  );
}

function Tile({ name, unit, value }: { name: string; unit: string; value: ReactNode }): React.JSX.Element {
  return (
    <div className={styles.tile}>
      <dt>{name}</dt>
      <dd>
        <span className={styles.value}>{value}</span>
        {unit !== '' && <small>{unit}</small>}
      </dd>
    </div>
  );
}

function Health({
  status,
  degraded,
}: {
  status: PartStatus | null;
  /** The word for a part that is not well. */
  degraded: string;
}): React.JSX.Element {
  if (status === null) return <>{UNKNOWN}</>;
  const isOk = status === 'ok';
  return (
    <span className={cx(styles.health, !isOk && styles.degraded)}>
      <StatusDot tone={isOk ? 'ok' : 'warn'} />
      {isOk ? 'OK' : degraded}
    </span>
  );
}
