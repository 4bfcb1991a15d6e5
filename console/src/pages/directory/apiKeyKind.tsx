/** API keys as a kind of record. */
import { useState } from 'react';
import { useController, useWatch, type Control } from 'react-hook-form';

import { recordLink } from '../../app/links';
import { Badge } from '../../ui/Badge';
import { Button } from '../../ui/Button';
import { Moment } from '../../ui/Moment';
import type { Column } from '../../ui/Table';
import { ReferenceInput, TextInput } from '../records/fields';
import type { FieldsProps, Kind } from '../records/kind';
import records from '../records/Records.module.css';
import { Words } from '../records/Words';
import { API_KEY_TEXTS, apiKeyOfForm, formOfApiKey, stateOf, type ApiKey, type ApiKeyForm } from './apiKey';
import styles from './Directory.module.css';
import { expiryInDays } from './expiry';
import { pathIn } from './form';
import { IdAndName, nameColumn, referenceColumn } from './parts';
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
        <IdAndName {...props} use="Limits and the log name it so" />
        <ReferenceInput
          control={control}
          name="tenantId"
          of="tenants"
          label="Tenant"
          isDisabled={isDisabled}
          hint="The tenant that it belongs to."
        />
        <ReferenceInput
          control={control}
          name="userId"
          of="users"
          filters={form.tenantId === '' ? {} : { tenantId: form.tenantId }}
          label="User"
          isDisabled={isDisabled}
          hint="A user of that tenant. May be empty."
        />
        <ReferenceInput
          control={control}
          name="tier"
          of="tiers"
          label="Tier of its own"
          isDisabled={isDisabled}
          hint="Before those of its user and its tenant. May be empty."
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
        hint="Such as 2030-12-31 or 2030-12-31 18:00. Empty: never."
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

function stateBadge(apiKey: ApiKey): React.JSX.Element {
  const { word, tone } = stateOf(apiKey, Date.now());
  return <Badge tone={tone}>{word}</Badge>;
}

const columns: readonly Column<ApiKey>[] = [
  nameColumn(),
  {
    id: 'prefix',
    header: 'Starts with',
    isMinor: true,
    cell: ({ prefix }) => <code className={styles.prefix}>{prefix}…</code>,
  },
  {
    id: 'state',
    header: 'State',
    cell: stateBadge,
    sortBy: (apiKey) => stateOf(apiKey, Date.now()).word,
  },
  referenceColumn('tenantId', 'Tenant', 'tenants', { isMinor: true }),
  referenceColumn('userId', 'User', 'users', { isMinor: true, none: 'any' }),
  {
    id: 'expiresAt',
    header: 'Expires',
    isMinor: true,
    cell: ({ expiresAt }) => <MomentOr at={expiresAt} none="never" />,
    sortBy: ({ expiresAt }) => (expiresAt === undefined ? Infinity : Date.parse(expiresAt)),
  },
  {
    id: 'lastUsedAt',
    header: 'Last used',
    isMinor: true,
    cell: ({ lastUsedAt }) => <MomentOr at={lastUsedAt} none="not yet" />,
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
  about: 'With a key, a check need not say who asks: the key gives its tenant, its user and its tier.',
  columns,
  filters: [
    { name: 'tenantId', label: 'Of tenant', of: 'tenants' },
    { name: 'userId', label: 'Of user', of: 'users' },
    { name: 'tier', label: 'With tier of its own', of: 'tiers' },
  ],
  toForm: formOfApiKey,
  toBody: apiKeyOfForm,
  formPathOf: pathIn([...API_KEY_TEXTS, 'expiresAt']),
  Fields: ApiKeyFields,
  quickChanges: [
    {
      label: 'Revoke',
      isOffered: ({ revoked }) => !revoked,
      consequence:
        'From now on every check with this key is denied with api_key_revoked, on every server within a second or so. It can be restored later.',
      patch: { revoked: true },
    },
    {
      label: 'Restore',
      isOffered: ({ revoked }) => revoked,
      consequence: 'Checks with this key count again, for whoever still holds it.',
      patch: { revoked: false },
    },
  ],
  related: ({ tenantId, userId }) => [
    { label: `Tenant ${tenantId}`, to: recordLink('tenants', tenantId) },
    ...(userId === undefined ? [] : [{ label: `User ${userId}`, to: recordLink('users', userId) }]),
  ],
};
