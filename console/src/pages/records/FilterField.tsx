/** A filter by the id of another record. */
import { useMemo } from 'react';

import { SearchField } from '../../ui/SearchField';
import type { Filter } from './kind';
import { useMatches } from './useMatches';

export interface FilterFieldProps {
  filter: Filter;
  value: string;
  onChange: (value: string) => void;
}

export function FilterField({ filter, value, onChange }: FilterFieldProps): React.JSX.Element {
  const matches = useMatches({ of: filter.of, text: value });
  const ids = useMemo(() => matches.map(({ id }) => id), [matches]);
  return (
    <SearchField label={filter.label} value={value} onChange={onChange} suggestions={ids} placeholder="any" />
  );
}
