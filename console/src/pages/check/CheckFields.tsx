/** The fields of a check: user and model, and the others folded away. */
import { useState } from 'react';
import { useFieldArray, type Control } from 'react-hook-form';

import { Button } from '../../ui/Button';
import { FormField } from '../../ui/Field';
import { hasDetails, isAmount, type CheckForm } from './check';
import styles from './CheckFields.module.css';

export interface CheckFieldsProps {
  control: Control<CheckForm>;
  values: CheckForm;
  /** Whether something is wrong that may be folded away. */
  isWrong: boolean;
}

export function CheckFields({ control, values, isWrong }: CheckFieldsProps): React.JSX.Element {
  const [isOpen, setOpen] = useState(() => hasDetails(values));
  return (
    <>
      <FormField control={control} name="user" label="User" autoComplete="off" />
      <FormField control={control} name="model" label="Model" autoComplete="off" />
      <details
        className={styles.details}
        open={isOpen || (isWrong && hasDetails(values))}
        onToggle={(event) => setOpen(event.currentTarget.open)}
      >
        <summary>Tenant, API key, service, IP, attributes, cost</summary>
        <div className={styles.fields}>
          <FormField control={control} name="tenant" label="Tenant" autoComplete="off" />
          <FormField
            control={control}
            name="apiKey"
            label="API key"
            autoComplete="off"
            hint="Not kept in the address of this page."
          />
          <FormField control={control} name="service" label="Service" autoComplete="off" />
          <FormField control={control} name="ip" label="IP" autoComplete="off" placeholder="203.0.113.7" />
          <AttributeRows control={control} />
          <CostRows control={control} />
        </div>
      </details>
    </>
  );
}

function CostRows({ control }: { control: Control<CheckForm> }): React.JSX.Element {
  const { fields, append, remove } = useFieldArray({ control, name: 'cost' });
  return (
    <fieldset className={styles.cost}>
      <legend>Cost</legend>
      {fields.map((row, index) => (
        <div key={row.id} className={styles.costRow}>
          <FormField control={control} name={`cost.${index}.unit`} label="Unit" placeholder="tokens" />
          <FormField
            control={control}
            name={`cost.${index}.amount`}
            label="Amount"
            inputMode="numeric"
            rules={{
              validate: (value) => isAmount(value) || 'Enter a whole number from 0 to 9,007,199,254,740,991.',
            }}
          />
          <Button variant="quiet" aria-label={`Remove cost ${index + 1}`} onPress={() => remove(index)}>
            ✕
          </Button>
        </div>
      ))}
      {fields.length === 0 && <p className={styles.note}>1 request.</p>}
      <Button variant="quiet" onPress={() => append({ unit: 'tokens', amount: '1000' })}>
        + Add a cost
      </Button>
    </fieldset>
  );
}

/** Attributes without a field of their own: a tier, a model tier, and any that policies match or count per. */
function AttributeRows({ control }: { control: Control<CheckForm> }): React.JSX.Element {
  const { fields, append, remove } = useFieldArray({ control, name: 'attributes' });
  return (
    <fieldset className={styles.cost}>
      <legend>Attributes</legend>
      {fields.map((row, index) => (
        <div key={row.id} className={styles.costRow}>
          <FormField control={control} name={`attributes.${index}.name`} label="Name" placeholder="tier" />
          <FormField control={control} name={`attributes.${index}.value`} label="Value" />
          <Button variant="quiet" aria-label={`Remove attribute ${index + 1}`} onPress={() => remove(index)}>
            ✕
          </Button>
        </div>
      ))}
      <Button variant="quiet" onPress={() => append({ name: '', value: '' })}>
        + Add an attribute
      </Button>
    </fieldset>
  );
}
