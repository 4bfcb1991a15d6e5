/** How much of a list is read and shown, and the way to more. */
import { Button } from '../../ui/Button';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import styles from './Records.module.css';
import type { RecordList } from './useRecordList';

export interface ListFooterProps {
  list: RecordList<unknown>;
  /** In a sentence: `policy`, `policies`. */
  one: string;
  many: string;
  /** Whether what was read is searched here. */
  isSearched: boolean;
  /** Whether what was read is what the server found. */
  isFound?: boolean;
}

function progress({ list, one, many, isSearched, isFound = false }: ListFooterProps): string {
  if (list.read === 1 && !list.hasMore && !isSearched && !isFound) return `1 ${one}`;
  const read = `${list.read.toLocaleString('en-US')} ${list.read === 1 ? one : many}`;
  if (isSearched) {
    const found = list.items.length.toLocaleString('en-US');
    return list.hasMore ? `${found} found in the first ${read}` : `${found} found in all ${read}`;
  }
  if (isFound) return list.hasMore ? `The first ${read} found` : `${read} found`;
  return list.hasMore ? `The first ${read}` : `All ${read}`;
}

export function ListFooter(props: ListFooterProps): React.JSX.Element | null {
  const { list, many } = props;
  if (list.read === 0 && !list.hasMore) return null;
  return (
    <div className={styles.footer}>
      <span role="status">{list.isReading ? `${progress(props)}; loading more` : progress(props)}</span>
      {list.hasMore && (
        <Button onPress={list.readMore} isPending={list.isReading}>
          Load more {many}
        </Button>
      )}
    </div>
  );
}

/** Says that what is shown is old, where it could not be read anew. */
export function StaleNotice({ list }: { list: RecordList<unknown> }): React.JSX.Element | null {
  if (list.error === null) return null;
  if (list.read === 0) return <ErrorState error={list.error} onRetry={list.retry} />;
  const time = new Date(list.readAtMs).toLocaleTimeString();
  return (
    <Notice tone="warn">
      <p>
        This list was loaded at {time} and may be out of date: {list.error.message}.
      </p>
      <Button onPress={list.retry}>Try again</Button>
    </Notice>
  );
}
