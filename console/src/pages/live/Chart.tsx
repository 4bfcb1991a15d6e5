/** A chart over time, with its legend: what each line is, and what it says at its end or at the cursor. */
import 'uplot/dist/uPlot.min.css';

import { useEffect, useId, useLayoutEffect, useMemo, useRef, useState, type RefObject } from 'react';
import type uPlot from 'uplot';

import { useShownTheme } from '../../app/theme';
import { formatDateTime, formatTime } from '../../ui/time';
import styles from './Chart.module.css';
import { makePlot, pointAt, type Line, type LineLook } from './plot';
import type { DegradedPeriod } from './series';
import { UNKNOWN } from './words';

export interface ChartProps {
  title: string;
  /** Milliseconds since 1970, one for each value of each line. */
  times: readonly number[];
  lines: readonly Line[];
  /** What the shading means is said beside the charts. */
  periods: readonly DegradedPeriod[];
  format: (value: number | null) => string;
  /** For values above 0 that span orders of magnitude. */
  isLog?: boolean;
  /** For a past that does not go on: all of it is shown, with its dates, where otherwise the last quarter of an hour is. */
  isPast?: boolean;
}

const HEIGHT_REM = 8.5;
/** How far a press of Page Up or Page Down goes. */
const PAGE = 60;

interface Box {
  width: number;
  remPx: number;
}

function useBox(ref: RefObject<HTMLElement | null>): Box | null {
  const [box, setBox] = useState<Box | null>(null);
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(([entry]) => {
      const remPx = Number.parseFloat(getComputedStyle(document.documentElement).fontSize);
      setBox({ width: Math.floor(entry?.contentRect.width ?? 0), remPx });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return box;
}

/** Keeps a plot in `root`; made anew when the lines' looks, the theme or the size change. Gives where the cursor is. */
function usePlot(
  root: RefObject<HTMLDivElement | null>,
  { times, lines, periods, format, isLog = false, isPast = false }: ChartProps,
): { plot: RefObject<uPlot | null>; cursor: number | null } {
  const plot = useRef<uPlot | null>(null);
  const shaded = useRef(periods);
  const [cursor, setCursor] = useState<number | null>(null);
  const box = useBox(root);
  const theme = useShownTheme();
  const looks = JSON.stringify(lines.map(({ label, color, dash }): LineLook => ({ label, color, dash })));
  useEffect(() => {
    if (root.current === null || box === null || box.width === 0) return undefined;
    const made = makePlot(root.current, {
      looks: JSON.parse(looks) as LineLook[],
      widthPx: box.width,
      heightPx: HEIGHT_REM * box.remPx,
      isLog,
      isPast,
      format,
      periods: () => shaded.current,
      onCursor: setCursor,
    });
    plot.current = made;
    return () => {
      plot.current = null;
      made.destroy();
    };
  }, [root, box, looks, theme, format, isLog, isPast]);
  useEffect(() => {
    shaded.current = periods;
    plot.current?.setData([times.map((at) => at / 1_000), ...lines.map(({ values }) => values)]);
  }, [times, lines, periods, box, looks, theme, format, isLog, isPast]);
  return { plot, cursor };
}

/** Where a key moves the cursor to: an index, null to take it away, undefined for a key that does not move it. */
function movedTo(key: string, from: number | null, last: number): number | null | undefined {
  const here = from ?? last;
  const targets: Readonly<Record<string, number>> = {
    ArrowLeft: here - 1,
    ArrowDown: here - 1,
    ArrowRight: here + 1,
    ArrowUp: here + 1,
    PageDown: here - PAGE,
    PageUp: here + PAGE,
    Home: 0,
    End: last,
  };
  if (key === 'Escape') return null;
  const target = targets[key];
  return target === undefined ? undefined : Math.max(0, Math.min(last, target));
}

export function Chart(props: ChartProps): React.JSX.Element {
  const { title, times, lines, format, isPast = false } = props;
  const titleId = useId();
  const root = useRef<HTMLDivElement>(null);
  const { plot, cursor } = usePlot(root, props);
  const last = times.length - 1;
  const isPointed = cursor !== null && cursor <= last;
  const index = isPointed ? cursor : last;
  const at = times[index];
  const moment = at === undefined ? '' : (isPast ? formatDateTime : formatTime)(at);
  const said = useMemo(
    () => lines.map(({ label, values }) => `${label} ${format(values[index] ?? null)}`).join(', '),
    [lines, format, index],
  );
  const onKeyDown = (event: React.KeyboardEvent): void => {
    const target = movedTo(event.key, isPointed ? cursor : null, last);
    if (target === undefined || plot.current === null) return;
    event.preventDefault();
    pointAt(plot.current, target);
  };
  const leave = (): void => {
    if (plot.current !== null) pointAt(plot.current, null);
  };
  return (
    <figure className={styles.chart} aria-labelledby={titleId}>
      <figcaption className={styles.head}>
        <h2 id={titleId}>{title}</h2>
        <span className={styles.moment}>{isPointed || isPast ? moment : 'now'}</span>
      </figcaption>
      <ul className={styles.legend}>
        {lines.map((line) => (
          <li key={line.label}>
            <Swatch line={line} />
            <span className={styles.name}>{line.label}</span>
            <strong>{format(line.values[index] ?? null)}</strong>
          </li>
        ))}
      </ul>
      <div
        ref={root}
        className={styles.plot}
        role="slider"
        tabIndex={0}
        aria-labelledby={titleId}
        aria-orientation="horizontal"
        aria-valuemin={0}
        aria-valuemax={Math.max(0, last)}
        aria-valuenow={Math.max(0, index)}
        aria-valuetext={moment === '' ? UNKNOWN : `${moment}: ${said}`}
        onKeyDown={onKeyDown}
        onBlur={leave}
      />
    </figure>
  );
}

function Swatch({ line: { color, dash } }: { line: Line }): React.JSX.Element {
  return (
    <svg className={styles.swatch} viewBox="0 0 20 4" aria-hidden="true">
      <line
        x2="20"
        y1="2"
        y2="2"
        stroke={`var(${color})`}
        strokeWidth="2.5"
        strokeDasharray={dash.join(' ')}
      />
    </svg>
  );
}
