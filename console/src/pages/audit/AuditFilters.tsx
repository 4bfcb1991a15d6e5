/** What the audit log is narrowed by: the filters that the server has. */
import { useCallback, useMemo } from 'react';

import { RECORD_KINDS } from '../../app/links';
import type { SearchState } from '../../app/searchState';
import { SearchField } from '../../ui/SearchField';
import { SelectField } from '../../ui/SelectField';
import { FilterField } from '../records/FilterField';
import { isAuditKind, KIND_WORDS, type Change, type ChangeFilters } from './change';

const KIND_OPTIONS = [
  { value: '', label: 'any' },
  ...Object.entries(KIND_WORDS).map(([value, label]) => ({ value, label })),
];

export interface AuditFiltersProps {
  filters: ChangeFilters;
  /** What was read: whom to offer as the one who made a change. */
  changes: readonly Change[];
  onChange: SearchState['set'];
}

export function AuditFilters({ filters, changes, onChange }: AuditFiltersProps): React.JSX.Element {
  const { kind, id, actor } = filters;
  const actors = useMemo(() => [...new Set(changes.map((change) => change.actor))].sort(), [changes]);
  const change = useCallback(
    (name: string, value: string) => onChange({ [name]: value, page: null }, { replace: true }),
    [onChange],
  );
  const onId = useCallback((value: string) => change('id', value), [change]);
  const onActor = useCallback((value: string) => change('actor', value), [change]);
  return (
    <>
      <SelectField
        label="Kind"
        value={kind}
        options={KIND_OPTIONS}
        onChange={(value) => change('kind', value)}
      />
      {isAuditKind(kind) ? (
        <FilterField
          key={kind}
          filter={{ name: 'id', label: 'ID', of: RECORD_KINDS[kind] }}
          value={id}
          onChange={onId}
        />
      ) : (
        <SearchField label="ID" value={id} onChange={onId} placeholder="any" />
      )}
      <SearchField label="Who" value={actor} onChange={onActor} suggestions={actors} placeholder="anyone" />
    </>
  );
}
