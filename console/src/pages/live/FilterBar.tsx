/** Which decisions are shown. Each field is in the address; the server is asked for no others. */
import type { EventFilter } from '../../api/events';
import { Button } from '../../ui/Button';
import { SearchField } from '../../ui/SearchField';
import { SelectField } from '../../ui/SelectField';
import { isFiltered, type FilterField } from './filter';
import styles from './Stream.module.css';

const OUTCOMES = [
  { value: '', label: 'All' },
  { value: 'true', label: 'Allowed' },
  { value: 'false', label: 'Denied' },
];

const TEXT_FIELDS = [
  { name: 'user', label: 'User' },
  { name: 'model', label: 'Model' },
  { name: 'tenant', label: 'Tenant' },
] as const;

export interface FilterBarProps {
  filter: EventFilter;
  /** What is offered; any other policy may be typed. */
  policies: readonly string[];
  onChange: (change: Partial<Record<FilterField, string>>) => void;
}

export function FilterBar({ filter, policies, onChange }: FilterBarProps): React.JSX.Element {
  const clear = (): void => onChange({ allowed: '', policy: '', user: '', model: '', tenant: '' });
  return (
    <search className={styles.filter} aria-label="Filter the decisions">
      <SelectField
        label="Outcome"
        value={filter.allowed}
        options={OUTCOMES}
        onChange={(allowed) => onChange({ allowed })}
      />
      <SearchField
        label="Policy"
        value={filter.policy}
        suggestions={policies}
        onChange={(policy) => onChange({ policy })}
      />
      {TEXT_FIELDS.map(({ name, label }) => (
        <SearchField
          key={name}
          label={label}
          value={filter[name]}
          onChange={(value) => onChange({ [name]: value })}
        />
      ))}
      <Button isDisabled={!isFiltered(filter)} onPress={clear}>
        Clear
      </Button>
    </search>
  );
}
