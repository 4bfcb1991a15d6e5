/** Tiers as a kind of record. */
import { useWatch } from 'react-hook-form';

import type { components } from '../../api/schema';
import { listLink } from '../../app/links';
import { PRIORITY_CLASSES } from '../policies/policy';
import { SelectInput } from '../records/fields';
import type { FieldsProps, Kind } from '../records/kind';
import records from '../records/Records.module.css';
import { Words } from '../records/Words';
import styles from './Directory.module.css';
import { bodyOfTexts, pathIn, textFormOf, type TextForm } from './form';
import { BY_NAME, IdAndName } from './parts';
import { PRIORITY_WORDS, tierInWords } from './words';

type Tier = components['schemas']['Tier'];

const NAMES = ['id', 'name', 'priority'] as const;
type TierForm = TextForm<(typeof NAMES)[number]>;

const PRIORITY_OPTIONS = PRIORITY_CLASSES.map((value) => ({
  value,
  label: `${value}: ${PRIORITY_WORDS[value]}`,
}));

function TierFields(props: FieldsProps<TierForm>): React.JSX.Element {
  const { control, isDisabled } = props;
  const form = useWatch({ control, compute: (values: TierForm) => values });
  return (
    <>
      <Words label="What this tier does" {...tierInWords(form)} />
      <div className={records.grid}>
        <IdAndName {...props} use="Policies refer to the tier by it" />
        <SelectInput
          control={control}
          name="priority"
          label="Priority class"
          options={PRIORITY_OPTIONS}
          isDisabled={isDisabled}
        />
      </div>
    </>
  );
}

export const tierKind: Kind<Tier, TierForm> = {
  kind: 'tiers',
  one: 'tier',
  many: 'tiers',
  about: 'A tier is a subscription class, such as free or pro. Policies can have conditions on it.',
  columns: [
    {
      id: 'priority',
      header: 'Priority class',
      cell: ({ priority }) => (
        <>
          {priority} <span className={styles.none}>{PRIORITY_WORDS[priority]}</span>
        </>
      ),
      sortBy: ({ priority }) => PRIORITY_CLASSES.indexOf(priority),
    },
  ],
  nameOf: ({ name }) => name,
  order: BY_NAME,
  filters: [],
  toForm: (tier) => textFormOf(NAMES, tier ?? { priority: 'standard' }),
  toBody: bodyOfTexts,
  formPathOf: pathIn(NAMES),
  Fields: TierFields,
  related: ({ id }) => [
    { label: 'Tenants', to: listLink('tenants', { tier: id }) },
    { label: 'Users', to: listLink('users', { tier: id }) },
    { label: 'API keys', to: listLink('api-keys', { tier: id }) },
  ],
};
