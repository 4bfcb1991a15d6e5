/** The last decisions that were told: a ring that never grows, whatever the rate. */
import type { DecisionEvent } from '../../api/events';

export const MAX_DECISIONS = 10_000;

export interface Logged {
  /** Counts up; tells rows apart. */
  readonly seq: number;
  readonly decision: DecisionEvent;
}

export class DecisionLog {
  readonly #capacity: number;
  #ring: Logged[] = [];
  /** Where the next one goes once the ring is full: at the oldest. */
  #next = 0;
  #seq = 0;

  constructor(capacity = MAX_DECISIONS) {
    this.#capacity = capacity;
  }

  /** How many were ever added. */
  get total(): number {
    return this.#seq;
  }

  add(decision: DecisionEvent): void {
    this.#seq += 1;
    const logged = { seq: this.#seq, decision };
    if (this.#ring.length < this.#capacity) {
      this.#ring.push(logged);
      return;
    }
    this.#ring[this.#next] = logged;
    this.#next = (this.#next + 1) % this.#capacity;
  }

  /** A copy that stays as it is while more is added. */
  newestFirst(): readonly Logged[] {
    return [...this.#ring.slice(this.#next), ...this.#ring.slice(0, this.#next)].reverse();
  }

  /** Drops all but those that `isKept` holds for. */
  keepOnly(isKept: (decision: DecisionEvent) => boolean): void {
    this.#ring = this.newestFirst()
      .filter(({ decision }) => isKept(decision))
      .reverse();
    this.#next = 0;
  }
}
