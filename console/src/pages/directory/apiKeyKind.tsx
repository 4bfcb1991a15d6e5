/** API keys as a kind of record. */
import { useState } from 'react';
import { useController, useWatch, type Control } from 'react-hook-form';

import { userAddress } from '../../api/admin';
import { recordLink } from '../../app/links';
import { Badge } from '../../ui/Badge';
import { Button } from '../../ui/Button';
import { Moment } from '../../ui/Moment';
import type { Column, Order } from '../../ui/Table';
import { ReferenceInput, TextInput } from '../records/fields';
import type { FieldsProps, Kind } from '../records/kind';
import records from '../records/Records.module.css';
import { Words } from '../records/Words';
import { API_KEY_TEXTS, apiKeyOfForm, formOfApiKey, stateOf, type ApiKey, type ApiKeyForm } from './apiKey';
import styles from './Directory.module.css';
import { expiryInDays } from './expiry';
import { pathIn } from './form';
import { IdAndName, referenceColumn } from './parts';
import { apiKeyInWords } from './words';

const LIFETIMES: readonly { label: string; days: number }[] = [
  { label: '30 days', days: 30 },
  { label: '90 days', days: 90 },
  { label: '1 year', days: 365 },
];

function ApiKeyFields(props: FieldsProps<ApiKeyForm>): React.JSX.Element {
  const { control, isDisabled } = props;
  const form = useWatch({ control, compute: (values: ApiKeyForm) => values });
  const [openedMs] = useState(() => Date.now());
  return (
    <>
      <Words label="What this API key does" {...apiKeyInWords(form, openedMs)} />
      <div className={records.grid}>
        <IdAndName {...props} use="Limits and the log refer to the key by it" />
        <ReferenceInput
          control={control}
          name="tenantId"
          of="tenants"
          label="Tenant"
          isDisabled={isDisabled}
          hint="The tenant that the key belongs to."
        />
        <ReferenceInput
          control={control}
          name="userId"
          of="users"
          filters={form.tenantId === '' ? {} : { tenantId: form.tenantId }}
          label="User"
          isDisabled={isDisabled}
          hint="Optional. A user of that tenant."
        />
        <ReferenceInput
          control={control}
          name="tier"
          of="tiers"
          label="Own tier"
          isDisabled={isDisabled}
          hint="Optional. Overrides the tiers of its user and its tenant."
        />
        <Expiry control={control} isDisabled={isDisabled} />
      </div>
    </>
  );
}

function Expiry({
  control,
  isDisabled,
}: {
  control: Control<ApiKeyForm>;
  isDisabled: boolean;
}): React.JSX.Element {
  const { field } = useController({ control, name: 'expiresAt' });
  return (
    <div className={styles.expiry}>
      <TextInput
        control={control}
        name="expiresAt"
        label="Expires (UTC)"
        placeholder="never"
        isDisabled={isDisabled}
        hint="Such as 2030-12-31 or 2030-12-31 18:00. If empty, never."
      />
      <div className={styles.lifetimes} role="group" aria-label="Lifetime">
        {LIFETIMES.map(({ label, days }) => (
          <Button
            key={label}
            variant="quiet"
            isDisabled={isDisabled}
            onPress={() => field.onChange(expiryInDays(days, Date.now()))}
          >
            {label}
          </Button>
        ))}
        <Button variant="quiet" isDisabled={isDisabled} onPress={() => field.onChange('')}>
          Never
        </Button>
      </div>
    </div>
  );
}

/** Keys that were never used come last, by name. */
const LAST_USED_FIRST: Order = [
  { id: 'lastUsedAt', desc: true },
  { id: 'name', desc: false },
];

function stateBadge(apiKey: ApiKey): React.JSX.Element {
  const { word, tone } = stateOf(apiKey, Date.now());
  return <Badge tone={tone}>{word}</Badge>;
}

const columns: readonly Column<ApiKey>[] = [
  {
    id: 'prefix',
    header: 'Starts with',
    cell: ({ prefix }) => <code className={styles.prefix}>{prefix}…</code>,
  },
  {
    id: 'state',
    header: 'State',
    cell: stateBadge,
    sortBy: (apiKey) => stateOf(apiKey, Date.now()).word,
  },
  referenceColumn('tenantId', 'Tenant', 'tenants'),
  referenceColumn('userId', 'User', 'users', { none: 'any' }),
  {
    id: 'expiresAt',
    header: 'Expires',
    cell: ({ expiresAt }) => <MomentOr at={expiresAt} none="never" />,
    sortBy: ({ expiresAt }) => (expiresAt === undefined ? Infinity : Date.parse(expiresAt)),
  },
  {
    id: 'lastUsedAt',
    header: 'Last used',
    cell: ({ lastUsedAt }) => <MomentOr at={lastUsedAt} none="never" />,
    sortBy: ({ lastUsedAt }) => (lastUsedAt === undefined ? 0 : Date.parse(lastUsedAt)),
  },
];

function MomentOr({ at, none }: { at: string | undefined; none: string }): React.JSX.Element {
  if (at === undefined) return <span className={styles.none}>{none}</span>;
  return <Moment epochMs={Date.parse(at)} />;
}

export const apiKeyKind: Kind<ApiKey, ApiKeyForm> = {
  kind: 'api-keys',
  one: 'API key',
  many: 'API keys',
  about: 'An API key identifies its tenant, its user and its tier, so that a check needs nothing else.',
  columns,
  nameOf: ({ name }) => name,
  order: LAST_USED_FIRST,
  filters: [
    { name: 'tenantId', label: 'Tenant', of: 'tenants' },
    { name: 'userId', label: 'User', of: 'users' },
    { name: 'tier', label: 'Own tier', of: 'tiers' },
  ],
  toForm: formOfApiKey,
  toBody: apiKeyOfForm,
  formPathOf: pathIn([...API_KEY_TEXTS, 'expiresAt']),
  Fields: ApiKeyFields,
  quickChanges: [
    {
      label: 'Revoke',
      done: 'Revoked',
      isOffered: ({ revoked }) => !revoked,
      consequence:
        'Every check with this key is denied (api_key_revoked), on every server within about a second. You can restore the key later.',
      patch: { revoked: true },
    },
    {
      label: 'Restore',
      done: 'Restored',
      isOffered: ({ revoked }) => revoked,
      consequence: 'Checks with this key are allowed again, for everyone who still has it.',
      patch: { revoked: false },
    },
  ],
  related: ({ tenantId, userId }) => [
    { label: `Tenant ${tenantId}`, to: recordLink('tenants', tenantId) },
    ...(userId === undefined
      ? []
      : [{ label: `User ${userId}`, to: recordLink('users', userAddress(tenantId, userId)) }]),
  ],
};
