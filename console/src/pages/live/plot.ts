/** How a chart is drawn: the only file that knows uPlot. */
import uPlot from 'uplot';

import { formatTime } from '../../ui/time';
import { SPAN_MS } from './history';
import { lonely, type DegradedPeriod, type Values } from './series';
import { formatMinute } from './words';

export interface Line {
  readonly label: string;
  /** A token of `tokens.css`. */
  readonly color: `--${string}`;
  /** So that lines are told apart without their colours. */
  readonly dash: readonly number[];
  readonly values: Values;
}

/** What of a line needs a new plot when it changes. */
export type LineLook = Omit<Line, 'values'>;

/** A chart shows no less. */
const LEAST_SPAN_MS = 60_000;
const AXIS_WIDTH_PX = 64;
const AXIS_HEIGHT_PX = 28;
const LINE_PX = 1.75;
const POINT_PX = 4;
const TICK_SPACE_X_PX = 90;
const TICK_SPACE_Y_PX = 36;
/** All charts show the same moment. */
const CURSOR_KEY = 'live';

function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** Leaves a tenth of room above the highest value. */
function rangeOf(_: uPlot, __: number, max: number | null): [number, number] {
  return [0, max === null || max <= 0 ? 1 : max * 1.1];
}

/** Whole powers of ten around what there is. */
function logRangeOf(_: uPlot, min: number | null, max: number | null): [number, number] {
  const from = Math.floor(Math.log10(min ?? 100));
  return [10 ** from, 10 ** Math.max(from + 1, Math.ceil(Math.log10(max ?? 10_000)))];
}

function powersOfTen(_: uPlot, __: number, min: number, max: number): number[] {
  const from = Math.ceil(Math.log10(min));
  return Array.from({ length: Math.floor(Math.log10(max)) - from + 1 }, (_, index) => 10 ** (from + index));
}

// eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- 3 is `Log`; that enum is in the types alone
const LOG_SCALE: uPlot.Scale = { distr: 3, range: logRangeOf };
const LOG_AXIS: uPlot.Axis = { splits: powersOfTen, filter: (_, splits) => splits };

/** All that there is, so that a page that was just opened shows more than a sliver at the right. */
function spanOf(_: uPlot, min: number | null, max: number | null): [number, number] {
  const end = max ?? 0;
  const wanted = Math.max(LEAST_SPAN_MS / 1_000, end - (min ?? end));
  return [end - Math.min(SPAN_MS / 1_000, wanted), end];
}

/** From the first to the last value; a single one is in the middle. */
function wholeOf(_: uPlot, min: number | null, max: number | null): [number, number] {
  const [from, to] = [min ?? 0, max ?? 0];
  return from < to ? [from, to] : [from - LEAST_SPAN_MS / 2_000, to + LEAST_SPAN_MS / 2_000];
}

const RECENT_AXIS: uPlot.Axis = {
  incrs: [15, 30, 60, 120, 180, 300],
  values: (_, times, __, ___, stepS) =>
    times.map((seconds) => (stepS < 60 ? formatTime : formatMinute)(seconds * 1_000)),
};

/** Shades `periods`, with a line at their top, as far as they are in sight. */
function shade(plot: uPlot, periods: readonly DegradedPeriod[]): void {
  const { ctx, bbox } = plot;
  const pixel = uPlot.pxRatio;
  for (const { from, to } of periods) {
    const left = Math.max(bbox.left, plot.valToPos(from / 1_000, 'x', true));
    const right = plot.valToPos(to / 1_000, 'x', true);
    const width = Math.max(2 * pixel, right - left);
    ctx.fillStyle = token('--warn-soft');
    ctx.fillRect(left, bbox.top, width, bbox.height);
    ctx.fillStyle = token('--warn-fill');
    ctx.fillRect(left, bbox.top, width, 3 * pixel);
  }
}

function seriesOf({ label, color, dash }: LineLook): uPlot.Series {
  const stroke = token(color);
  return {
    label,
    stroke,
    width: LINE_PX,
    dash: [...dash],
    spanGaps: false,
    points: {
      size: POINT_PX,
      fill: stroke,
      stroke,
      show: true,
      filter: (plot, index) => lonely(plot.data[index] ?? []),
    },
  };
}

function axisOf(): Pick<uPlot.Axis, 'stroke' | 'font' | 'grid' | 'ticks'> {
  const line = { stroke: token('--border'), width: 1 };
  const size = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.75;
  return { stroke: token('--text-3'), font: `${size}px ${token('--font')}`, grid: line, ticks: line };
}

export interface PlotOptions {
  readonly looks: readonly LineLook[];
  readonly widthPx: number;
  readonly heightPx: number;
  /** Whether the scale is logarithmic: what it shows is above 0, and spans orders of magnitude. */
  readonly isLog: boolean;
  /** Whether all there is is shown, with its dates, and not the last quarter of an hour. */
  readonly isPast: boolean;
  readonly format: (value: number) => string;
  readonly periods: () => readonly DegradedPeriod[];
  readonly onCursor: (index: number | null) => void;
}

/** A plot in `root`, without data yet. */
export function makePlot(root: HTMLElement, options: PlotOptions): uPlot {
  const { looks, widthPx, heightPx, isLog, isPast, format, periods, onCursor } = options;
  const axis = axisOf();
  return new uPlot(
    {
      width: widthPx,
      height: heightPx,
      legend: { show: false },
      padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: CURSOR_KEY }, points: { size: 6 } },
      scales: {
        x: { time: true, range: isPast ? wholeOf : spanOf },
        y: isLog ? LOG_SCALE : { range: rangeOf },
      },
      axes: [
        {
          ...axis,
          // Without a form of its own, an axis over hours or days shows what differs: the hour, the day or the year.
          ...(isPast ? {} : RECENT_AXIS),
          size: isPast ? 2 * AXIS_HEIGHT_PX : AXIS_HEIGHT_PX,
          space: TICK_SPACE_X_PX,
          grid: { show: false },
        },
        {
          ...axis,
          ...(isLog ? LOG_AXIS : {}),
          size: AXIS_WIDTH_PX,
          space: TICK_SPACE_Y_PX,
          values: (_, values) => values.map((value) => format(value)),
        },
      ],
      series: [{}, ...looks.map(seriesOf)],
      hooks: {
        drawClear: [(plot) => shade(plot, periods())],
        setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)],
      },
    },
    [[], ...looks.map(() => [])],
    root,
  );
}

/** Puts the cursor of all charts on the value at `index`; takes it away for null. */
export function pointAt(plot: uPlot, index: number | null): void {
  const seconds = index === null ? undefined : plot.data[0][index];
  const left = seconds === undefined ? -10 : plot.valToPos(seconds, 'x');
  plot.setCursor({ left, top: seconds === undefined ? -10 : 1 });
}
