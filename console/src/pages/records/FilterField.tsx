/** A filter by the id of another record. */
import { SearchField } from '../../ui/SearchField';
import type { Filter } from './kind';
import { useIds } from './useIds';

export interface FilterFieldProps {
  filter: Filter;
  value: string;
  onChange: (value: string) => void;
}

export function FilterField({ filter, value, onChange }: FilterFieldProps): React.JSX.Element {
  const ids = useIds(filter.of);
  return <SearchField label={filter.label} value={value} onChange={onChange} suggestions={ids} />;
}
