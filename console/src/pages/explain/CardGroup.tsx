/** Limits that take part, each as a card. */
import { useId, useState } from 'react';

import { Button } from '../../ui/Button';
import styles from './Explain.module.css';
import type { Considered } from './explanation';
import { countInWords } from './explanationWords';
import { LimitCard } from './LimitCard';
import type { Explained } from './useExplanation';

/** So many are shown, and more when asked for. */
const STEP = 24;

export interface CardGroupProps {
  title: string;
  about: string;
  all: readonly Considered[];
  /** Those that the search finds. */
  shown: readonly Considered[];
  isSearched: boolean;
  explained: Explained;
}

export function CardGroup(props: CardGroupProps): React.JSX.Element | null {
  const { title, about, all, shown, isSearched, explained } = props;
  const id = useId();
  const [most, setMost] = useState(STEP);
  if (all.length === 0) return null;
  const more = Math.min(STEP, shown.length - most);
  return (
    <section className={styles.group} aria-labelledby={id}>
      <h2 id={id}>
        {title} <span className={styles.count}>{countInWords(all.length, shown.length, isSearched)}</span>
      </h2>
      {shown.length > 0 && <p className={styles.note}>{about}</p>}
      <ul className={styles.cards}>
        {shown.slice(0, most).map((considered) => (
          <li key={considered.answer.policyId}>
            <LimitCard considered={considered} explained={explained} />
          </li>
        ))}
      </ul>
      {more > 0 && (
        <Button variant="quiet" onPress={() => setMost(most + STEP)}>
          Show {more} more
        </Button>
      )}
    </section>
  );
}
