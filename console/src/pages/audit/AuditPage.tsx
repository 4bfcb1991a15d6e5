/** The audit log: who changed what, and when. The address holds the filters and the change that is open. */
import { useCallback, useMemo } from 'react';
import { Link, useLocation } from 'react-router';

import { changesLink, RECORD_KINDS } from '../../app/links';
import { useSearchState } from '../../app/searchState';
import { Badge } from '../../ui/Badge';
import { Button } from '../../ui/Button';
import { EmptyState } from '../../ui/EmptyState';
import { Moment } from '../../ui/Moment';
import { Skeleton } from '../../ui/Skeleton';
import { Table, type Column } from '../../ui/Table';
import { ListFooter, StaleNotice } from '../records/ListFooter';
import records from '../records/Records.module.css';
import { useRecordList } from '../records/useRecordList';
import styles from './Audit.module.css';
import { AuditFilters } from './AuditFilters';
import { ACTION_WORDS, changeInWords, isAuditKind, KIND_WORDS, listChanges, type Change } from './change';
import { ChangeDialog } from './ChangeDialog';

function What({ change }: { change: Change }): React.JSX.Element {
  const { word, tone } = ACTION_WORDS[change.action];
  const kind = KIND_WORDS[change.kind];
  return (
    <span className={styles.what}>
      <Badge tone={tone}>{word}</Badge> {kind}{' '}
      <Link
        to={changesLink(RECORD_KINDS[change.kind], change.recordId)}
        aria-label={`All changes of ${kind} ${change.recordId}`}
        className={styles.record}
      >
        {change.recordId}
      </Link>
    </span>
  );
}

function useColumns(): readonly Column<Change>[] {
  const { pathname, search } = useLocation();
  return useMemo(() => {
    const linkTo = (id: number): string => {
      const query = new URLSearchParams(search);
      query.set('open', String(id));
      return `${pathname}?${query.toString()}`;
    };
    return [
      {
        id: 'at',
        header: 'When',
        cell: ({ id, at }) => (
          <Link to={linkTo(id)} className={styles.when}>
            <Moment epochMs={at} />
          </Link>
        ),
      },
      { id: 'actor', header: 'Who', isMinor: true, cell: ({ actor }) => actor },
      { id: 'what', header: 'What', cell: (change) => <What change={change} /> },
      {
        id: 'fields',
        header: 'Before → after',
        cell: (change) => <span className={styles.fields}>{changeInWords(change)}</span>,
      },
    ];
  }, [pathname, search]);
}

const NO_SEARCH_TEXT = (): string => '';

export default function AuditPage(): React.JSX.Element {
  const { get, set } = useSearchState();
  const kind = isAuditKind(get('kind')) ? get('kind') : '';
  const filters = { kind, id: get('id'), actor: get('actor') };
  const onPages = useCallback((pages: number) => set({ page: String(pages) }, { replace: true }), [set]);
  const list = useRecordList<Change>({
    queryKey: ['audit', 'list', filters],
    fetchPage: (cursor, signal) => listChanges(filters, cursor, signal),
    search: '',
    searchText: NO_SEARCH_TEXT,
    pages: Number(get('page')) || 1,
    onPages,
  });
  const columns = useColumns();
  const open = get('open');
  const isNarrowed = Object.values(filters).some((value) => value !== '');

  return (
    <div className={records.page}>
      <h1>Audit log</h1>
      <p className={styles.about}>Every change of policies and of the directory, newest first.</p>
      <div className={styles.toolbar} role="search" aria-label="changes">
        <AuditFilters filters={filters} changes={list.items} onChange={set} />
        <Button isPending={list.isReading} onPress={list.retry}>
          Refresh
        </Button>
      </div>
      <StaleNotice list={list} />
      {list.isPending && <Skeleton lines={8} label="Loading the changes" />}
      {(list.read > 0 || (!list.isPending && list.error === null)) && (
        <>
          <Table
            label="changes"
            columns={columns}
            rows={list.items}
            rowId={({ id }) => String(id)}
            empty={<Nothing isNarrowed={isNarrowed} />}
            onNearEnd={list.readMore}
          />
          <ListFooter list={list} one="change" many="changes" isSearched={false} />
        </>
      )}
      {open !== '' && <ChangeDialog key={open} number={open} onClose={() => set({ open: null })} />}
    </div>
  );
}

function Nothing({ isNarrowed }: { isNarrowed: boolean }): React.JSX.Element {
  if (isNarrowed) return <EmptyState title="No matching changes">Change the filters.</EmptyState>;
  return (
    <EmptyState title="There are no changes yet">
      Changes made here or through the API are listed with who made them. A catalog in a file has no audit
      log: see the version control of the file.
    </EmptyState>
  );
}
