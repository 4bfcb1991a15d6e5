/** Says what went wrong, with the server's own words, and offers to try again. */
import { Button } from './Button';
import { describeError } from './errors';
import styles from './ErrorState.module.css';

export interface ErrorStateProps {
  error: unknown;
  title?: string;
  onRetry?: () => void;
}

export function ErrorState({ error, title, onRetry }: ErrorStateProps): React.JSX.Element {
  const described = describeError(error);
  const detail = title === undefined ? described.detail : (described.detail ?? described.title);
  return (
    <div className={styles.error} role="alert">
      <p className={styles.title}>{title ?? described.title}</p>
      {detail !== null && <p>{detail}</p>}
      {described.fields.length > 0 && (
        <ul>
          {described.fields.map(({ field, problem, accepted }) => (
            <li key={`${field} ${problem}`}>
              <code>{field}</code>: {problem}
              {accepted !== '' && `. Accepted: ${accepted}`}
            </li>
          ))}
        </ul>
      )}
      {described.retryAfterMs !== null && (
        <p>Wait {Math.ceil(described.retryAfterMs / 1000)} seconds before you try again.</p>
      )}
      {onRetry !== undefined && <Button onPress={onRetry}>Try again</Button>}
    </div>
  );
}
