/** The part of a page's state that is in its address, so that it can be shared and gone back to. */
import { useCallback } from 'react';
import { useSearchParams } from 'react-router';

export type SearchChange = Readonly<Record<string, string | null>>;

export interface SearchState {
  get: (name: string) => string;
  /** Sets what `change` names; null or empty removes. A change that is no step of its own replaces the last. */
  set: (change: SearchChange, options?: { replace?: boolean }) => void;
}

export function useSearchState(): SearchState {
  const [params, setParams] = useSearchParams();
  const get = useCallback((name: string) => params.get(name) ?? '', [params]);
  const set = useCallback(
    (change: SearchChange, { replace = false }: { replace?: boolean } = {}) =>
      setParams(
        (before) => {
          const after = new URLSearchParams(before);
          for (const [name, value] of Object.entries(change)) {
            if (value === null || value === '') after.delete(name);
            else after.set(name, value);
          }
          return after;
        },
        { replace, preventScrollReset: true },
      ),
    [setParams],
  );
  return { get, set };
}
