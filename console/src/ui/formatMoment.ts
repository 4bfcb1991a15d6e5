/** A moment in words. */

const moment = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });

/** The date and the time of day where the reader is, to the second. */
export function formatMoment(epochMs: number): string {
  return moment.format(epochMs);
}
