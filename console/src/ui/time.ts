/** Durations in words, and the time that goes on. */
import { useEffect, useState } from 'react';

import { useReducedMotion } from './motion';

/** `1 h 02 min 03 s`, `3.4 s`, `250 ms`: short, and never shorter than the time is. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.ceil(ms)} ms`;
  if (ms < 60_000) return `${(Math.ceil(ms / 100) / 10).toFixed(1)} s`;
  const seconds = Math.ceil(ms / 1_000);
  const parts = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3_600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  const [days = 0, hours = 0, minutes = 0] = parts;
  const two = (value: number): string => String(value).padStart(2, '0');
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${two(minutes)} min`;
  return `${minutes} min ${two(seconds % 60)} s`;
}

/** A window's length: `1 hour`, `90 seconds`. */
export function formatWindow(seconds: number): string {
  const units: [number, string][] = [
    [86_400, 'day'],
    [3_600, 'hour'],
    [60, 'minute'],
    [1, 'second'],
  ];
  const [size, name] = units.find(([unit]) => seconds >= unit && seconds % unit === 0) ?? [1, 'second'];
  const amount = seconds / size;
  return amount === 1 ? `1 ${name}` : `${amount} ${name}s`;
}

// Made once: a formatter costs more to make than a thousand times of day to format.
const timeOfDay = new Intl.DateTimeFormat([], {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});

/** The time of day, to the second. */
export function formatTime(epochMs: number): string {
  return timeOfDay.format(epochMs);
}

const dayAndTime = new Intl.DateTimeFormat([], {
  dateStyle: 'medium',
  timeStyle: 'medium',
  hourCycle: 'h23',
});

/** The day and the time of day, to the second. */
export function formatDateTime(epochMs: number): string {
  return dayAndTime.format(epochMs);
}

/** The time of day, to the millisecond. */
export function formatClock(epochMs: number): string {
  return `${formatTime(epochMs)}.${String(Math.floor(epochMs) % 1_000).padStart(3, '0')}`;
}

const TICK_MS = 1_000;

/**
 * The milliseconds of `performance.now()`, drawn anew while `isRunning` with every frame, or every `stepMs` where that
 * is longer; every second where the reader asked for reduced motion.
 */
export function useNow(isRunning: boolean, stepMs = 0): number {
  const [now, setNow] = useState(() => performance.now());
  const isReduced = useReducedMotion();
  useEffect(() => {
    if (!isRunning) return undefined;
    const tick = (): void => {
      const now = performance.now();
      setNow((before) => (now - before < stepMs ? before : now));
    };
    if (isReduced) {
      const first = requestAnimationFrame(tick);
      const timer = window.setInterval(tick, TICK_MS);
      return () => {
        cancelAnimationFrame(first);
        window.clearInterval(timer);
      };
    }
    let frame = requestAnimationFrame(function draw() {
      tick();
      frame = requestAnimationFrame(draw);
    });
    return () => cancelAnimationFrame(frame);
  }, [isRunning, isReduced, stepMs]);
  return now;
}
