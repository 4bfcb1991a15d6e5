/**
 * One window of time, sliding: what was admitted enters at the right and leaves at the left, exactly one window later.
 *
 * The paths are made anew only when there is something new; each frame only moves them. The usage line is drawn into
 * the future too, and cut off at now, so that it falls by itself when an admission leaves.
 */
import {
  useEffect,
  useId,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
  type PointerEvent,
  type RefObject,
} from 'react';

import { useReducedMotion } from '../../ui/motion';
import { formatCount } from '../check/words';
import {
  marksAt,
  nearestMark,
  placeOf,
  scaleOf,
  stepsPath,
  ticksPath,
  xOf,
  yOf,
  type Mark,
  type Scale,
} from './geometry';
import styles from './Timeline.module.css';
import type { LimitWindow } from './windowModel';

const PLOT_HEIGHT_PX = 150;
const LANE_TOP_PX = 162;
const LANE_HEIGHT_PX = 26;
const HEIGHT_PX = LANE_TOP_PX + LANE_HEIGHT_PX;
/** How near to a mark one has to point. */
const POINTING_PX = 8;
/** A movement that is smaller is not drawn. */
const LEAST_MOVE_PX = 0.2;
const REDUCED_MOTION_MS = 1_000;

function useWidth(ref: RefObject<Element | null>): number {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const element = ref.current;
    if (element === null) return undefined;
    const observer = new ResizeObserver(([entry]) => setWidth(entry?.contentRect.width ?? 0));
    observer.observe(element);
    return () => observer.disconnect();
  }, [ref]);
  return width;
}

/** Moves `ref` so that now is at the right edge. */
function useSliding(ref: RefObject<SVGGElement | null>, scale: Scale, widthPx: number): void {
  const isReduced = useReducedMotion();
  useLayoutEffect(() => {
    let shown = Number.NaN;
    const place = (): void => {
      const x = widthPx - xOf(scale, performance.now());
      if (Math.abs(x - shown) < LEAST_MOVE_PX) return;
      shown = x;
      ref.current?.setAttribute('transform', `translate(${x.toFixed(2)} 0)`);
    };
    place();
    if (isReduced) {
      const timer = window.setInterval(place, REDUCED_MOTION_MS);
      return () => window.clearInterval(timer);
    }
    let frame = requestAnimationFrame(function draw() {
      place();
      frame = requestAnimationFrame(draw);
    });
    return () => cancelAnimationFrame(frame);
  }, [ref, scale, widthPx, isReduced]);
}

export interface TimelineProps {
  window: LimitWindow;
  selected: Mark | null;
  onSelect: (mark: Mark | null) => void;
  /** What is said of a mark. */
  describe: (mark: Mark) => string;
}

export function Timeline({
  window: limitWindow,
  selected,
  onSelect,
  describe,
}: TimelineProps): React.JSX.Element {
  const clip = useId();
  const root = useRef<HTMLDivElement>(null);
  const sliding = useRef<SVGGElement>(null);
  const widthPx = useWidth(root);
  const origin = limitWindow.told?.at ?? 0;
  const scale = useMemo(
    () => scaleOf(limitWindow, origin, Math.max(1, widthPx), PLOT_HEIGHT_PX),
    [limitWindow, origin, widthPx],
  );
  useSliding(sliding, scale, widthPx);
  const pointAt = (event: PointerEvent<HTMLDivElement>): void => {
    const fromRightPx = event.currentTarget.getBoundingClientRect().right - event.clientX;
    const now = performance.now();
    const marks = marksAt(limitWindow, now);
    const index = nearestMark(marks, now - fromRightPx / scale.pxPerMs, POINTING_PX / scale.pxPerMs);
    onSelect(index === null ? null : (marks[index] ?? null));
  };
  return (
    <div ref={root} className={styles.timeline}>
      <Chooser
        window={limitWindow}
        selected={selected}
        onSelect={onSelect}
        describe={describe}
        onPointer={pointAt}
      >
        <svg width={widthPx} height={HEIGHT_PX} aria-hidden="true">
          <clipPath id={clip}>
            <rect width={widthPx} height={HEIGHT_PX} />
          </clipPath>
          <line className={styles.base} x2={widthPx} y1={PLOT_HEIGHT_PX} y2={PLOT_HEIGHT_PX} />
          <rect className={styles.lane} y={LANE_TOP_PX} width={widthPx} height={LANE_HEIGHT_PX} />
          <g clipPath={`url(#${clip})`}>
            <g ref={sliding}>
              <Marks window={limitWindow} scale={scale} selected={selected} />
            </g>
          </g>
          <LimitLine window={limitWindow} scale={scale} widthPx={widthPx} />
        </svg>
      </Chooser>
    </div>
  );
}

function Marks({
  window,
  scale,
  selected,
}: {
  window: LimitWindow;
  scale: Scale;
  selected: Mark | null;
}): React.JSX.Element {
  const paths = useMemo(() => {
    const momentsOf = (isDenied: boolean): number[] =>
      window.admissions.filter((one) => (one.isDenied ?? false) === isDenied).map(({ at }) => at);
    const denials = [...window.denials, ...momentsOf(true)];
    const limitY = yOf(scale, window.limit);
    const steps = stepsPath(window, scale);
    return {
      steps,
      area: steps === '' ? '' : `${steps}Z`,
      admissions: ticksPath(momentsOf(false), scale, LANE_TOP_PX + 4, LANE_TOP_PX + LANE_HEIGHT_PX - 4),
      denials: ticksPath(denials, scale, Math.max(0, limitY - 12), limitY),
    };
  }, [window, scale]);
  return (
    <>
      <path className={styles.area} d={paths.area} />
      <path className={styles.steps} d={paths.steps} />
      <path className={styles.denials} d={paths.denials} />
      <path className={styles.admissions} d={paths.admissions} />
      {selected !== null && (
        <path className={styles.selected} d={ticksPath([selected.at], scale, 0, HEIGHT_PX)} />
      )}
    </>
  );
}

function LimitLine({
  window,
  scale,
  widthPx,
}: {
  window: LimitWindow;
  scale: Scale;
  widthPx: number;
}): React.JSX.Element {
  const y = yOf(scale, window.limit);
  return (
    <>
      <line className={styles.limit} x2={widthPx} y1={y} y2={y} />
      <text className={styles.limitText} x={4} y={y + 14}>
        limit {formatCount(window.limit)}
      </text>
    </>
  );
}

interface ChooserProps extends TimelineProps {
  onPointer: (event: PointerEvent<HTMLDivElement>) => void;
  children: React.ReactNode;
}

/** Chooses a mark by pointer, or by arrow keys as on a slider, which tells each mark in words. */
function Chooser({
  window,
  selected,
  onSelect,
  describe,
  onPointer,
  children,
}: ChooserProps): React.JSX.Element {
  const [position, setPosition] = useState({ index: 0, count: 0 });
  const onKeyDown = (event: React.KeyboardEvent): void => {
    const marks = marksAt(window, performance.now());
    const last = marks.length - 1;
    const here = selected === null ? marks.length : placeOf(selected, marks);
    const targets: Readonly<Record<string, number>> = {
      ArrowLeft: here - 1,
      ArrowDown: here - 1,
      ArrowRight: here + 1,
      ArrowUp: here + 1,
      Home: 0,
      End: last,
    };
    if (event.key === 'Escape') onSelect(null);
    const target = targets[event.key];
    if (target === undefined) return;
    event.preventDefault();
    const index = Math.max(0, Math.min(last, target));
    setPosition({ index: index + 1, count: marks.length });
    onSelect(marks[index] ?? null);
  };
  const text =
    selected === null
      ? 'Nothing selected. Use the arrow keys to go through the allowed and denied checks.'
      : describe(selected);
  useEffect(() => () => onSelect(null), [onSelect]);
  return (
    <div
      className={styles.chooser}
      role="slider"
      tabIndex={0}
      aria-label="Allowed and denied checks in the window"
      aria-valuemin={0}
      aria-valuemax={position.count}
      aria-valuenow={selected === null ? 0 : position.index}
      aria-valuetext={text}
      onKeyDown={onKeyDown}
      onBlur={() => onSelect(null)}
      onPointerMove={onPointer}
      onPointerDown={onPointer}
      onPointerLeave={() => onSelect(null)}
    >
      {children}
    </div>
  );
}
