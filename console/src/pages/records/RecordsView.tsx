/** A kind of record as a table with search and filters; the record that the address names is open over it. */
import { useQueryClient } from '@tanstack/react-query';
import { useCallback, useMemo, useState } from 'react';
import type { FieldValues } from 'react-hook-form';
import { Link, useLocation } from 'react-router';

import { useAccess } from '../../api/access';
import { listRecords, type Filters } from '../../api/records';
import { addressOf } from '../../api/admin';
import { useSearchState } from '../../app/searchState';
import { Button } from '../../ui/Button';
import { EmptyState } from '../../ui/EmptyState';
import { Notice } from '../../ui/Notice';
import { SearchField } from '../../ui/SearchField';
import { Skeleton } from '../../ui/Skeleton';
import { Table, type Column } from '../../ui/Table';
import { FilterField } from './FilterField';
import type { Item, Kind } from './kind';
import { ListFooter, StaleNotice } from './ListFooter';
import { RecordDialog } from './RecordDialog';
import styles from './Records.module.css';
import { SecretDialog, type Secret } from './SecretDialog';
import { usePaused } from './usePaused';
import { useRecordList } from './useRecordList';

/** The columns of a kind after one with the name or the id, which opens the record. */
function useColumns<Record extends Item>({
  kind,
  columns,
  nameOf,
}: Pick<Kind<Record, FieldValues>, 'kind' | 'columns' | 'nameOf'>): readonly Column<Record>[] {
  const { pathname, search } = useLocation();
  return useMemo(() => {
    const linkTo = (address: string): string => {
      const query = new URLSearchParams(search);
      query.delete('new');
      query.set('open', address);
      return `${pathname}?${query.toString()}`;
    };
    const textOf = nameOf ?? idOf;
    const first: Column<Record> = {
      id: nameOf === undefined ? 'id' : 'name',
      header: nameOf === undefined ? 'ID' : 'Name',
      cell: (record) => (
        <span className={styles.named}>
          <Link to={linkTo(addressOf(kind, record))} className={styles.open}>
            {textOf(record)}
          </Link>
          {textOf(record) !== record.id && <code className={styles.id}>{record.id}</code>}
        </span>
      ),
      sortBy: textOf,
    };
    return [first, ...columns];
  }, [kind, columns, nameOf, pathname, search]);
}

function idOf({ id }: Item): string {
  return id;
}

/** The secret in the answer to the making of an API key; nothing else has one. */
function secretOf(answer: unknown): Secret | null {
  const { id, key } = (answer ?? {}) as Partial<Secret>;
  return typeof id === 'string' && typeof key === 'string' ? { id, key } : null;
}

export function RecordsView<Record extends Item, Form extends FieldValues>({
  kind,
}: {
  kind: Kind<Record, Form>;
}): React.JSX.Element {
  const { get, set } = useSearchState();
  const access = useAccess();
  const client = useQueryClient();
  const [secret, setSecret] = useState<Secret | null>(null);
  const given = kind.filters.map(({ name }) => [name, get(name)]).filter(([, value]) => value !== '');
  const filters = Object.fromEntries(given) as Filters;
  const search = get('q');
  const asked = usePaused(kind.searchText === undefined ? search.trim() : '');
  const narrowed = asked === '' ? filters : { ...filters, search: asked };
  const onPages = useCallback((pages: number) => set({ page: String(pages) }, { replace: true }), [set]);
  const onSearch = useCallback((q: string) => set({ q }, { replace: true }), [set]);
  const list = useRecordList<Record>({
    queryKey: ['records', kind.kind, narrowed],
    fetchPage: (cursor, signal) => listRecords<Record>(kind.kind, narrowed, cursor, signal),
    search: kind.searchText === undefined ? '' : search,
    searchText: kind.searchText ?? idOf,
    isSorted: kind.order !== undefined,
    pages: Number(get('page')) || 1,
    onPages,
  });
  const columns = useColumns<Record>(kind);
  const onChanged = (answer: unknown): void => {
    void client.invalidateQueries({ queryKey: ['records'] });
    void client.invalidateQueries({ queryKey: ['audit'] });
    void client.invalidateQueries({ queryKey: ['ids'] });
    setSecret(secretOf(answer));
  };
  const isNarrowed = search !== '' || given.length > 0;
  const [open, isNew] = [get('open'), get('new') !== ''];

  return (
    <>
      {access.why !== null && <Notice>{access.why}</Notice>}
      <div className={styles.toolbar} role="search" aria-label={kind.many}>
        <SearchField label={`Search ${kind.many}`} value={search} onChange={onSearch} />
        {kind.filters.map((filter) => (
          <FilterField
            key={filter.name}
            filter={filter}
            value={get(filter.name)}
            onChange={(value) => set({ [filter.name]: value, page: null }, { replace: true })}
          />
        ))}
        <Button variant="primary" isDisabled={!access.canWrite} onPress={() => set({ new: '1', open: null })}>
          New {kind.one}
        </Button>
      </div>
      <StaleNotice list={list} />
      {list.isPending && <Skeleton lines={8} label={`Loading the ${kind.many}`} />}
      {(list.read > 0 || (!list.isPending && list.error === null)) && (
        <>
          <Table
            label={kind.many}
            columns={columns}
            rows={list.items}
            rowId={(record) => addressOf(kind.kind, record)}
            order={kind.order}
            empty={<Nothing kind={kind} isNarrowed={isNarrowed} isReading={list.isReading} />}
            onNearEnd={list.readMore}
          />
          <ListFooter
            list={list}
            one={kind.one}
            many={kind.many}
            isSearched={kind.searchText !== undefined && search !== ''}
            isFound={asked !== ''}
          />
        </>
      )}
      {(open !== '' || isNew) && (
        <RecordDialog
          key={isNew ? 'new' : `open ${open}`}
          kind={kind}
          id={isNew ? null : open}
          access={access}
          onClose={() => set({ open: null, new: null })}
          onChanged={onChanged}
        />
      )}
      {secret !== null && <SecretDialog secret={secret} onClose={() => setSecret(null)} />}
    </>
  );
}

interface NothingProps {
  kind: { one: string; many: string; about: string };
  isNarrowed: boolean;
  isReading: boolean;
}

function Nothing({ kind, isNarrowed, isReading }: NothingProps): React.JSX.Element {
  if (isNarrowed && isReading) return <EmptyState title="None found so far; still searching" />;
  if (isNarrowed) {
    return <EmptyState title={`No matching ${kind.many}`}>Change the search or the filters.</EmptyState>;
  }
  return <EmptyState title={`There are no ${kind.many} yet`}>{kind.about}</EmptyState>;
}
