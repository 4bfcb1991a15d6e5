/** A list that is read page by page, and searched here where the server cannot. */
import { keepPreviousData, useInfiniteQuery, type InfiniteData } from '@tanstack/react-query';
import { useCallback, useDeferredValue, useEffect, useMemo } from 'react';

import type { Page } from '../../api/admin';

/** The most items that a search reads by itself; beyond, it asks. */
const MAX_SEARCHED = 20_000;
/** The same of a list that is sorted here: a page of it alone would have the wrong order. */
const MAX_SORTED = 5_000;

export interface RecordListOptions<Item> {
  queryKey: readonly unknown[];
  fetchPage: (cursor: string | null, signal: AbortSignal) => Promise<Page<Item>>;
  search: string;
  searchText: (item: Item) => string;
  /** Whether the list is sorted otherwise than the server lists it. */
  isSorted?: boolean;
  /** How many pages the address asks for. */
  pages: number;
  onPages: (pages: number) => void;
}

export interface RecordList<Item> {
  /** What was read and is found by the search. */
  items: readonly Item[];
  read: number;
  isPending: boolean;
  isReading: boolean;
  hasMore: boolean;
  error: Error | null;
  /** When what is shown was read, in milliseconds since the epoch. */
  readAtMs: number;
  readMore: () => void;
  retry: () => void;
}

function matches(text: string, words: readonly string[]): boolean {
  const lower = text.toLowerCase();
  return words.every((word) => lower.includes(word));
}

export function useRecordList<Item>(options: RecordListOptions<Item>): RecordList<Item> {
  const { queryKey, fetchPage, search, searchText, isSorted = false, pages, onPages } = options;
  const query = useInfiniteQuery<
    Page<Item>,
    Error,
    InfiniteData<Page<Item>>,
    readonly unknown[],
    string | null
  >({
    queryKey,
    queryFn: ({ pageParam, signal }) => fetchPage(pageParam, signal),
    initialPageParam: null,
    getNextPageParam: (last) => last.nextCursor,
    // What was found before stays until there is better.
    placeholderData: keepPreviousData,
  });
  const { data, fetchNextPage, hasNextPage, isFetching, isError, refetch } = query;
  const all = useMemo(() => data?.pages.flatMap((page) => page.items) ?? [], [data]);
  const loaded = data?.pages.length ?? 0;

  const wanted = useDeferredValue(search);
  const items = useMemo(() => {
    const words = wanted.toLowerCase().split(/\s+/u).filter(Boolean);
    return words.length === 0 ? all : all.filter((item) => matches(searchText(item), words));
  }, [all, wanted, searchText]);

  const isSortable = isSorted && all.length < MAX_SORTED;
  const readsOn = search !== '' ? all.length < MAX_SEARCHED : isSortable || loaded < pages;
  useEffect(() => {
    if (readsOn && hasNextPage && !isFetching && !isError) void fetchNextPage();
  }, [readsOn, hasNextPage, isFetching, isError, fetchNextPage]);

  const readMore = useCallback(() => {
    if (!hasNextPage || isFetching || isError) return;
    void fetchNextPage();
    // A search reads on by itself, and the address need not say how far it got.
    if (search === '') onPages(loaded + 1);
  }, [hasNextPage, isFetching, isError, fetchNextPage, search, onPages, loaded]);

  return {
    items,
    read: all.length,
    isPending: query.isPending,
    isReading: isFetching,
    hasMore: hasNextPage,
    error: query.error,
    readAtMs: query.dataUpdatedAt,
    readMore,
    retry: () => void (query.isFetchNextPageError ? fetchNextPage() : refetch()),
  };
}
