/** Tenants as a kind of record. */
import { useWatch } from 'react-hook-form';

import type { components } from '../../api/schema';
import { listLink } from '../../app/links';
import { ReferenceInput } from '../records/fields';
import type { FieldsProps, Kind } from '../records/kind';
import styles from '../records/Records.module.css';
import { Words } from '../records/Words';
import { bodyOfTexts, pathIn, textFormOf, type TextForm } from './form';
import { IdAndName, nameColumn, referenceColumn } from './parts';
import { tenantInWords } from './words';

type Tenant = components['schemas']['Tenant'];

const NAMES = ['id', 'name', 'tier'] as const;
type TenantForm = TextForm<(typeof NAMES)[number]>;

function TenantFields(props: FieldsProps<TenantForm>): React.JSX.Element {
  const { control, isDisabled } = props;
  const form = useWatch({ control, compute: (values: TenantForm) => values });
  return (
    <>
      <Words label="What this tenant does" {...tenantInWords(form)} />
      <div className={styles.grid}>
        <IdAndName {...props} use="Checks name it so" />
        <ReferenceInput
          control={control}
          name="tier"
          of="tiers"
          label="Tier"
          isDisabled={isDisabled}
          hint="Of its users and API keys that have none of their own. May be empty."
        />
      </div>
    </>
  );
}

export const tenantKind: Kind<Tenant, TenantForm> = {
  kind: 'tenants',
  one: 'tenant',
  many: 'tenants',
  about: 'Without any, all checks count alike. A tenant gives its users and API keys a tier.',
  columns: [nameColumn(), referenceColumn('tier', 'Tier', 'tiers', { none: 'default' })],
  filters: [{ name: 'tier', label: 'Of tier', of: 'tiers' }],
  toForm: (tenant) => textFormOf(NAMES, tenant),
  toBody: bodyOfTexts,
  formPathOf: pathIn(NAMES),
  Fields: TenantFields,
  related: ({ id }) => [
    { label: 'Its users', to: listLink('users', { tenantId: id }) },
    { label: 'Its API keys', to: listLink('api-keys', { tenantId: id }) },
  ],
};
