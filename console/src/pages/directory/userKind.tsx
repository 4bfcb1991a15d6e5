/** Users as a kind of record. */
import { useWatch } from 'react-hook-form';

import type { components } from '../../api/schema';
import { listLink, recordLink } from '../../app/links';
import { ReferenceInput } from '../records/fields';
import type { FieldsProps, Kind } from '../records/kind';
import styles from '../records/Records.module.css';
import { useMatch } from '../records/useMatches';
import { Words } from '../records/Words';
import { bodyOfTexts, pathIn, textFormOf, type TextForm } from './form';
import { BY_NAME, IdAndName, referenceColumn } from './parts';
import { userInWords } from './words';

type User = components['schemas']['User'];

const NAMES = ['id', 'name', 'tenantId', 'tier'] as const;
type UserForm = TextForm<(typeof NAMES)[number]>;

function UserFields(props: FieldsProps<UserForm>): React.JSX.Element {
  const { control, isDisabled } = props;
  const form = useWatch({ control, compute: (values: UserForm) => values });
  const tenant = useMatch({ of: 'tenants', text: form.tenantId });
  const tenantTier = tenant === null ? null : (tenant.tier ?? 'default');
  return (
    <>
      <Words label="What this user does" {...userInWords(form, tenantTier)} />
      <div className={styles.grid}>
        <IdAndName {...props} use="Checks refer to the user by it" />
        <ReferenceInput
          control={control}
          name="tenantId"
          of="tenants"
          label="Tenant"
          isDisabled={isDisabled}
          hint="The tenant that the user belongs to."
        />
        <ReferenceInput
          control={control}
          name="tier"
          of="tiers"
          label="Own tier"
          isDisabled={isDisabled}
          placeholder={tenantTier === null ? 'the tenant’s' : `the tenant’s: ${tenantTier}`}
          hint="Optional. Overrides the tenant’s tier."
        />
      </div>
    </>
  );
}

export const userKind: Kind<User, UserForm> = {
  kind: 'users',
  one: 'user',
  many: 'users',
  about: 'Checks may also name users that are not listed. A listed user has a tenant and a tier.',
  columns: [
    referenceColumn('tenantId', 'Tenant', 'tenants'),
    referenceColumn('tier', 'Own tier', 'tiers', { none: 'the tenant’s' }),
  ],
  nameOf: ({ name }) => name,
  order: BY_NAME,
  filters: [
    { name: 'tenantId', label: 'Tenant', of: 'tenants' },
    { name: 'tier', label: 'Own tier', of: 'tiers' },
  ],
  toForm: (user) => textFormOf(NAMES, user),
  toBody: bodyOfTexts,
  formPathOf: pathIn(NAMES),
  Fields: UserFields,
  related: ({ id, tenantId }) => [
    { label: `Tenant ${tenantId}`, to: recordLink('tenants', tenantId) },
    { label: 'API keys', to: listLink('api-keys', { userId: id }) },
  ],
};
