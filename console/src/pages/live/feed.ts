/**
 * What the page shows of the stream, gathered outside of React: figures once a second, decisions at most a few times a
 * second however many come, so that 1,000 of them a second do not draw the page 1,000 times.
 */
import type { EventFilter, LeaseChange, LiveEvent, StatsEvent } from '../../api/events';
import type { Listener, StreamState } from '../../api/listen';
import { DecisionLog, type Logged } from './decisionLog';
import { isNarrower, meets, meetsLease, NO_FILTER } from './filter';
import { EMPTY_HISTORY, reconnected, told, type History, type Sample } from './history';
import { placesOf, topPolicies } from './series';

/** Something that changes, for `useSyncExternalStore`. */
export class Observed<Value> {
  #value: Value;
  readonly #listeners = new Set<() => void>();

  constructor(value: Value) {
    this.#value = value;
  }

  readonly get = (): Value => this.#value;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  set(value: Value): void {
    this.#value = value;
    for (const listener of this.#listeners) listener();
  }
}

export interface Figures {
  readonly samples: readonly Sample[];
  /** What was told last; null until something is. */
  readonly latest: StatsEvent | null;
  /** The policies with a line of their own, each at its place. */
  readonly places: readonly (string | null)[];
}

export interface ShownDecisions {
  readonly newestFirst: readonly Logged[];
  /** How many were told since the page was opened. */
  readonly total: number;
}

/** A change of a lease; `seq` counts up and tells rows apart. */
export interface LoggedLease {
  readonly seq: number;
  readonly change: LeaseChange;
}

/** How many changes of leases are kept: what fits on a page. */
export const MAX_LEASE_CHANGES = 50;

/** How long the page says that it lags after the server last said so. */
const LAGGING_MS = 5_000;
/** Faster than anyone reads; slow enough to leave the page most of its time. */
export const DRAW_EVERY_MS = 100;

const NO_FIGURES: Figures = { samples: [], latest: null, places: [] };
const NO_DECISIONS: ShownDecisions = { newestFirst: [], total: 0 };

export class LiveFeed implements Listener {
  readonly state = new Observed<StreamState>({ kind: 'connecting' });
  readonly figures = new Observed<Figures>(NO_FIGURES);
  readonly decisions = new Observed<ShownDecisions>(NO_DECISIONS);
  /** The last changes of leases, the newest first. */
  readonly leases = new Observed<readonly LoggedLease[]>([]);
  /** The least time between two changes of `decisions`. */
  drawEveryMs = DRAW_EVERY_MS;

  #history: History = EMPTY_HISTORY;
  #log = new DecisionLog();
  #leases: readonly LoggedLease[] = [];
  #leaseSeq = 0;
  #filter: EventFilter = NO_FILTER;
  #owner: string | null = null;
  #laggedAt = 0;
  #drawnAt = 0;
  #isScheduled = false;

  /** Begins a connection of `owner`, who does not see what another one was told. */
  begin(owner: string, filter: EventFilter): void {
    if (owner !== this.#owner) {
      this.#owner = owner;
      this.#history = EMPTY_HISTORY;
      this.#log = new DecisionLog();
      this.#leases = [];
      this.figures.set(NO_FIGURES);
    }
    // What was heard under another filter would be a list with holes.
    const isComplete = isNarrower(this.#filter, filter);
    this.#log.keepOnly((decision) => isComplete && meets(decision, filter));
    this.#leases = this.#leases.filter(({ change }) => isComplete && meetsLease(change, filter));
    this.#filter = filter;
    this.#draw();
  }

  readonly onState = (state: StreamState): void => {
    if (state.kind === 'connecting') this.#history = reconnected(this.#history);
    this.state.set(state);
  };

  readonly onEvents = (events: readonly LiveEvent[]): void => {
    for (const event of events) {
      if (event.kind === 'decision') this.#log.add(event.decision);
      else if (event.kind === 'lease') this.#addLease(event.change);
      else if (event.kind === 'stats') this.#tell(event.stats);
      else this.#lag(event.skipped);
    }
    if (this.#log.total !== this.decisions.get().total || this.#leases !== this.leases.get())
      this.#schedule();
  };

  #addLease(change: LeaseChange): void {
    this.#leaseSeq += 1;
    this.#leases = [{ seq: this.#leaseSeq, change }, ...this.#leases].slice(0, MAX_LEASE_CHANGES);
  }

  #tell(stats: StatsEvent): void {
    this.#history = told(this.#history, stats);
    const { samples } = this.#history;
    const places = placesOf(this.figures.get().places, topPolicies(samples));
    this.figures.set({ samples, latest: stats, places });
    const isOver = performance.now() - this.#laggedAt > LAGGING_MS;
    if (this.state.get().kind === 'lagging' && isOver) this.state.set({ kind: 'open' });
  }

  #lag(skipped: number): void {
    const state = this.state.get();
    const before = state.kind === 'lagging' ? state.skipped : 0;
    this.#laggedAt = performance.now();
    this.state.set({ kind: 'lagging', skipped: before + skipped });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const waitMs = this.#drawnAt + this.drawEveryMs - performance.now();
    // With a frame, which a page that is not seen does not get: it then draws once, when it is seen again.
    window.setTimeout(() => requestAnimationFrame(() => this.#draw()), Math.max(0, waitMs));
  }

  #draw(): void {
    this.#isScheduled = false;
    this.#drawnAt = performance.now();
    this.decisions.set({ newestFirst: this.#log.newestFirst(), total: this.#log.total });
    this.leases.set(this.#leases);
  }
}
