/** What a record does, in words, while its form is filled in. */
import styles from './Records.module.css';

export interface WordsProps {
  /** For those who do not see it: `What this policy does`. */
  label: string;
  headline: string;
  /** What else is worth knowing. */
  notes: readonly string[];
}

export function Words({ label, headline, notes }: WordsProps): React.JSX.Element {
  return (
    <section className={styles.words} aria-label={label}>
      <p className={styles.headline} aria-live="polite">
        {headline}
      </p>
      {notes.length > 0 && (
        <ul>
          {notes.map((note) => (
            <li key={note}>{note}</li>
          ))}
        </ul>
      )}
    </section>
  );
}
