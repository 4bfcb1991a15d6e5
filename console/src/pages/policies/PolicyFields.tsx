/** The form of a policy, and what it will do, in words, as it is typed. */
import { useFieldArray, useWatch, type Control } from 'react-hook-form';

import type { RecordKind } from '../../api/admin';
import { Button } from '../../ui/Button';
import { CheckInput, SelectInput, TextInput, TokensInput } from '../records/fields';
import type { FieldsProps } from '../records/kind';
import { useIds } from '../records/useIds';
import { Words } from '../records/Words';
import { BUILT_IN_ATTRIBUTES, CONCURRENCY, PRIORITY_CLASSES, SCOPES, type Policy } from './policy';
import {
  CALENDAR,
  CALENDARS,
  canBeSplit,
  countsByAddress,
  countsLeases,
  countsTokens,
  hasWindow,
  LISTED,
  policyOfForm,
  TOKEN_BUCKET,
  WINDOW_UNITS,
  type LimitKind,
  type PolicyForm,
} from './policyForm';
import { attributeInWords, listed, policyInWords } from './policyWords';
import styles from './Policies.module.css';

type Part = FieldsProps<PolicyForm>;

const SCOPE_OPTIONS = [
  ...Object.entries(SCOPES).map(([value, attributes]) => ({
    value,
    label:
      attributes.length === 0 ? 'all checks together' : `each ${listed(attributes.map(attributeInWords))}`,
  })),
  { value: LISTED, label: 'other attributes…' },
];

const LIMIT_OPTIONS = [
  { value: 'amount', label: 'up to a limit' },
  { value: 'exempt', label: 'no limit of this kind (exemption)' },
  { value: 'exemptAll', label: 'no limit of any kind (exemption from all)' },
  { value: 'ban', label: 'nothing (ban)' },
];

const TEST_OPTIONS = [
  { value: 'values', label: 'has one of these values' },
  { value: 'present', label: 'has any value' },
  { value: 'absent', label: 'has no value' },
];

const UNITS = ['requests', 'tokens', 'input_tokens', 'output_tokens', CONCURRENCY];

const ALGORITHM_OPTIONS = [
  { value: 'sliding_window_log', label: 'log: exact' },
  { value: 'sliding_window_counter', label: 'counter: approximate, uses less memory' },
  { value: TOKEN_BUCKET, label: 'token bucket: bursts, then a steady rate' },
  { value: CALENDAR, label: 'calendar: starts anew with each hour, day, week or month' },
];

const MODE_OPTIONS = [
  { value: 'enforce', label: 'enforce: deny checks' },
  { value: 'shadow', label: 'shadow: only report' },
];

const OVER_LIMIT_OPTIONS = [
  { value: 'deny', label: 'deny: not recorded' },
  { value: 'charge', label: 'charge: recorded, it has happened' },
];

const ON_EXPIRE_OPTIONS = [
  { value: 'keep', label: 'keep: what it reserved stays charged' },
  { value: 'refund', label: 'refund: what it reserved is given back' },
];

const VISIBILITY_OPTIONS = [
  { value: 'public', label: 'public: header fields name it' },
  { value: 'private', label: 'private: they do not' },
];

const ON_STORE_ERROR_OPTIONS = [
  { value: '', label: 'server default' },
  { value: 'allow', label: 'allow all checks' },
  { value: 'deny', label: 'deny all checks' },
  { value: 'local', label: 'local: each server gets a share' },
];

/** The kind whose ids a condition on an attribute takes. */
const KIND_OF: Readonly<Record<string, RecordKind>> = {
  user: 'users',
  model: 'models',
  tenant: 'tenants',
  apiKey: 'api-keys',
  tier: 'tiers',
  modelTier: 'model-tiers',
};

export function PolicyFields(props: Part): React.JSX.Element {
  const { control, isNew, isDisabled } = props;
  const form = useWatch({ control, compute: (values: PolicyForm) => values });
  const { headline, notes } = policyInWords(policyOfForm(form) as unknown as Policy);
  return (
    <>
      <Words
        label="What this policy does"
        headline={headline ?? 'Set a limit to see a summary here.'}
        notes={notes}
      />
      <div className={styles.grid}>
        <TextInput
          control={control}
          name="id"
          label="ID"
          isDisabled={isDisabled || !isNew}
          hint={isNew ? 'Permanent. Usage is tracked under this ID.' : 'The ID cannot be changed.'}
        />
        <SelectInput
          control={control}
          name="scope"
          label="Counts for"
          options={SCOPE_OPTIONS}
          isDisabled={isDisabled}
        />
        {form.scope === LISTED && (
          <TokensInput
            control={control}
            name="per"
            label="Attributes to count by"
            suggestions={BUILT_IN_ATTRIBUTES}
            isDisabled={isDisabled}
            hint="Each combination has its own count; without any, all checks share one. Press Enter to add an attribute."
          />
        )}
        {countsByAddress(form) && (
          <TextInput
            control={control}
            name="ipv6Prefix"
            label="IPv6 prefix"
            inputMode="numeric"
            placeholder="64"
            isDisabled={isDisabled}
            hint="IPv6 addresses with the same first bits are counted together."
          />
        )}
      </div>
      <Conditions {...props} />
      <LimitPart
        {...props}
        limitKind={form.limitKind}
        unit={form.unit}
        everyWindow={form.everyWindow}
        algorithm={form.algorithm}
      />
      <Behaviour {...props} isOfLeases={countsLeases(form)} />
    </>
  );
}

function Conditions({ control, isDisabled }: Part): React.JSX.Element {
  const { fields, append, remove } = useFieldArray({ control, name: 'conditions' });
  return (
    <fieldset className={styles.group}>
      <legend>Applies to</legend>
      {fields.length === 0 && <p className={styles.note}>All checks: there are no conditions.</p>}
      {fields.map((row, index) => (
        <ConditionRow
          key={row.id}
          control={control}
          index={index}
          isDisabled={isDisabled}
          onRemove={() => remove(index)}
        />
      ))}
      <Button
        variant="quiet"
        isDisabled={isDisabled}
        onPress={() =>
          append(
            { attribute: '', test: 'values', values: [] },
            { focusName: `conditions.${fields.length}.attribute` },
          )
        }
      >
        + Add a condition
      </Button>
      {fields.length > 0 && (
        <CheckInput
          control={control}
          name="ignoreCase"
          label="Ignore upper and lower case"
          isDisabled={isDisabled}
        />
      )}
    </fieldset>
  );
}

interface ConditionRowProps {
  control: Control<PolicyForm>;
  index: number;
  isDisabled: boolean;
  onRemove: () => void;
}

function ConditionRow({ control, index, isDisabled, onRemove }: ConditionRowProps): React.JSX.Element {
  const attribute = useWatch({ control, name: `conditions.${index}.attribute` });
  const test = useWatch({ control, name: `conditions.${index}.test` });
  const ids = useIds(KIND_OF[attribute]);
  return (
    <div className={styles.condition}>
      <TextInput
        control={control}
        name={`conditions.${index}.attribute`}
        label="Attribute"
        suggestions={BUILT_IN_ATTRIBUTES}
        isDisabled={isDisabled}
      />
      <SelectInput
        control={control}
        name={`conditions.${index}.test`}
        label="Condition"
        options={TEST_OPTIONS}
        isDisabled={isDisabled}
      />
      {test === 'values' && (
        <TokensInput
          control={control}
          name={`conditions.${index}.values`}
          label="is one of"
          suggestions={ids}
          isDisabled={isDisabled}
          hint={
            attribute === 'ip'
              ? 'Addresses, or blocks such as 10.0.0.0/8.'
              : 'gpt-4* means every value that starts with gpt-4.'
          }
        />
      )}
      <Button
        variant="quiet"
        aria-label={`Remove condition ${index + 1}`}
        isDisabled={isDisabled}
        onPress={onRemove}
      >
        ✕
      </Button>
    </div>
  );
}

interface LimitPartProps extends Part {
  limitKind: LimitKind;
  unit: string;
  everyWindow: boolean;
  algorithm: string;
}

function LimitPart({
  control,
  isDisabled,
  limitKind,
  unit,
  everyWindow,
  algorithm,
}: LimitPartProps): React.JSX.Element {
  const isCounted = limitKind === 'amount';
  const isOfOneKind = limitKind !== 'exemptAll';
  const isOfLeases = countsLeases({ unit });
  const isInWindow = hasWindow({ unit, limitKind, everyWindow });
  return (
    <fieldset className={styles.group}>
      <legend>Allows</legend>
      <div className={styles.grid}>
        <SelectInput
          control={control}
          name="limitKind"
          label="How much"
          options={LIMIT_OPTIONS}
          isDisabled={isDisabled}
        />
        {isCounted && (
          <TextInput
            control={control}
            name="amount"
            label="Limit"
            inputMode="numeric"
            isDisabled={isDisabled}
          />
        )}
        {isCounted && !isOfLeases && algorithm === TOKEN_BUCKET && (
          <TextInput
            control={control}
            name="burst"
            label="Burst"
            inputMode="numeric"
            placeholder="as much as the limit"
            isDisabled={isDisabled}
            hint="The most that is allowed at once."
          />
        )}
        {isOfOneKind && (
          <TextInput
            control={control}
            name="unit"
            label="Unit"
            suggestions={UNITS}
            isDisabled={isDisabled}
            hint={
              isOfLeases
                ? 'The leases that are alive at a time. A check holds none.'
                : 'What is counted, such as tokens. concurrency limits leases.'
            }
          />
        )}
        {isInWindow && algorithm === CALENDAR && (
          <>
            <SelectInput
              control={control}
              name="calendar"
              label="Period"
              options={CALENDARS.map((value) => ({ value, label: value }))}
              isDisabled={isDisabled}
            />
            <TextInput
              control={control}
              name="timeZone"
              label="Time zone"
              placeholder="UTC"
              isDisabled={isDisabled}
              hint="Whose clocks show when a period starts, such as Europe/Berlin."
            />
          </>
        )}
        {isInWindow && algorithm !== CALENDAR && (
          <>
            <TextInput
              control={control}
              name="window"
              label="Window"
              inputMode="decimal"
              isDisabled={isDisabled}
            />
            <SelectInput
              control={control}
              name="windowUnit"
              label="Window unit"
              options={Object.keys(WINDOW_UNITS).map((value) => ({ value, label: value }))}
              isDisabled={isDisabled}
            />
          </>
        )}
      </div>
      {isCounted && countsTokens({ unit }) && (
        <TextInput
          control={control}
          name="weights"
          label="Weights of tokens"
          placeholder='{"cached_input_tokens": 0.1}'
          isDisabled={isDisabled}
          hint="By kind, as JSON: how much a token counts, from 0 to 1000 with up to 3 decimals. A kind that is not named counts like the kind that it is a part of, or 1."
        />
      )}
      {canBeSplit({ unit, limitKind, algorithm }) && (
        <TextInput
          control={control}
          name="split"
          label="Parts taken ahead, %"
          inputMode="decimal"
          placeholder="none"
          isDisabled={isDisabled}
          hint="For a limit that many servers use at once: each takes at most this part of what is left from Redis and decides without asking. Never above the limit; up to 50."
        />
      )}
      {isOfOneKind && !isCounted && !isOfLeases && (
        <CheckInput
          control={control}
          name="everyWindow"
          label="Limits of every window"
          hint="Otherwise only limits of one window are meant."
          isDisabled={isDisabled}
        />
      )}
    </fieldset>
  );
}

function Behaviour({ control, isDisabled, isOfLeases }: Part & { isOfLeases: boolean }): React.JSX.Element {
  const policies = useIds('policies');
  return (
    <fieldset className={styles.group}>
      <legend>Behavior</legend>
      <div className={styles.grid}>
        {!isOfLeases && (
          <SelectInput
            control={control}
            name="algorithm"
            label="Algorithm"
            options={ALGORITHM_OPTIONS}
            isDisabled={isDisabled}
          />
        )}
        <SelectInput
          control={control}
          name="mode"
          label="Mode"
          options={MODE_OPTIONS}
          isDisabled={isDisabled}
        />
        <SelectInput
          control={control}
          name="onStoreError"
          label="If the store is unavailable"
          options={ON_STORE_ERROR_OPTIONS}
          isDisabled={isDisabled}
        />
        {!isOfLeases && (
          <SelectInput
            control={control}
            name="overLimit"
            label="Cost of a denied check"
            options={OVER_LIMIT_OPTIONS}
            isDisabled={isDisabled}
          />
        )}
        {!isOfLeases && (
          <SelectInput
            control={control}
            name="onExpire"
            label="When a lease expires"
            options={ON_EXPIRE_OPTIONS}
            isDisabled={isDisabled}
          />
        )}
        <SelectInput
          control={control}
          name="visibility"
          label="Shown to callers"
          options={VISIBILITY_OPTIONS}
          isDisabled={isDisabled}
        />
      </div>
      <div className={styles.grid}>
        {PRIORITY_CLASSES.map((name) => (
          <TextInput
            key={name}
            control={control}
            name={`shares.${name}`}
            label={`Share of ${name}, %`}
            inputMode="decimal"
            placeholder="100"
            isDisabled={isDisabled}
          />
        ))}
      </div>
      <p className={styles.note}>
        A priority class with a share is allowed only while less than that part of the limit is used. The rest
        is reserved for more important classes.
      </p>
      <TextInput
        control={control}
        name="reserve"
        label="Reserved by leases that do not say"
        placeholder='{"output_tokens": {"quantile": 0.95, "atLeast": 64, "atMost": 4096}}'
        isDisabled={isDisabled}
      />
      <p className={styles.note}>
        By unit, as JSON: as much as that share of the answers of the same model and tenant used, within the
        bounds.
      </p>
      <TokensInput
        control={control}
        name="overrides"
        label="Also overrides"
        suggestions={policies}
        isDisabled={isDisabled}
        hint="IDs of policies that do not apply where this one does. Less specific policies with the same attributes, unit and window are overridden anyway."
      />
      <CheckInput
        control={control}
        name="enabled"
        label="Enabled"
        hint="A disabled policy has no effect."
        isDisabled={isDisabled}
      />
    </fieldset>
  );
}
