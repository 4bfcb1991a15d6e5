/** Tenants as a kind of record. */
import { useWatch } from 'react-hook-form';

import type { components } from '../../api/schema';
import { listLink } from '../../app/links';
import { ReferenceInput } from '../records/fields';
import type { FieldsProps, Kind } from '../records/kind';
import styles from '../records/Records.module.css';
import { Words } from '../records/Words';
import { bodyOfTexts, pathIn, textFormOf, type TextForm } from './form';
import { BY_NAME, IdAndName, referenceColumn } from './parts';
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
        <IdAndName {...props} use="Checks refer to the tenant by it" />
        <ReferenceInput
          control={control}
          name="tier"
          of="tiers"
          label="Tier"
          isDisabled={isDisabled}
          hint="Optional. For its users and API keys that have no tier of their own."
        />
      </div>
    </>
  );
}

export const tenantKind: Kind<Tenant, TenantForm> = {
  kind: 'tenants',
  one: 'tenant',
  many: 'tenants',
  about: 'A tenant is a customer or an organization. Its users and API keys have its tier.',
  columns: [referenceColumn('tier', 'Tier', 'tiers', { none: 'default' })],
  nameOf: ({ name }) => name,
  order: BY_NAME,
  filters: [{ name: 'tier', label: 'Tier', of: 'tiers' }],
  toForm: (tenant) => textFormOf(NAMES, tenant),
  toBody: bodyOfTexts,
  formPathOf: pathIn(NAMES),
  Fields: TenantFields,
  related: ({ id }) => [
    { label: 'Users', to: listLink('users', { tenantId: id }) },
    { label: 'API keys', to: listLink('api-keys', { tenantId: id }) },
  ],
};
