/** A moment, in the reader's own time; in UTC to who points at it. */
import { formatMoment } from './formatMoment';

export function Moment({ epochMs }: { epochMs: number }): React.JSX.Element {
  const iso = new Date(epochMs).toISOString();
  return (
    <time dateTime={iso} title={iso}>
      {formatMoment(epochMs)}
    </time>
  );
}
