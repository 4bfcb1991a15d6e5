/** Models and their tiers as kinds of record. */
import { useWatch } from 'react-hook-form';

import type { components } from '../../api/schema';
import { listLink, recordLink } from '../../app/links';
import { ReferenceInput } from '../records/fields';
import type { FieldsProps, Kind } from '../records/kind';
import styles from '../records/Records.module.css';
import { Words } from '../records/Words';
import { bodyOfTexts, pathIn, textFormOf, type TextForm } from './form';
import { BY_NAME, IdAndName, referenceColumn } from './parts';
import { modelInWords, modelTierInWords } from './words';

type ModelTier = components['schemas']['ModelTier'];
type Model = components['schemas']['Model'];

const MODEL_TIER_NAMES = ['id', 'name'] as const;
type ModelTierForm = TextForm<(typeof MODEL_TIER_NAMES)[number]>;

const MODEL_NAMES = ['id', 'name', 'modelTier'] as const;
type ModelForm = TextForm<(typeof MODEL_NAMES)[number]>;

function ModelTierFields(props: FieldsProps<ModelTierForm>): React.JSX.Element {
  const form = useWatch({ control: props.control, compute: (values: ModelTierForm) => values });
  return (
    <>
      <Words label="What this model tier does" {...modelTierInWords(form)} />
      <div className={styles.grid}>
        <IdAndName {...props} use="Policies refer to the model tier by it" />
      </div>
    </>
  );
}

function ModelFields(props: FieldsProps<ModelForm>): React.JSX.Element {
  const { control, isDisabled } = props;
  const form = useWatch({ control, compute: (values: ModelForm) => values });
  return (
    <>
      <Words label="What this model does" {...modelInWords(form)} />
      <div className={styles.grid}>
        <IdAndName {...props} use="Checks refer to the model by it" />
        <ReferenceInput
          control={control}
          name="modelTier"
          of="model-tiers"
          label="Model tier"
          isDisabled={isDisabled}
          hint="The model tier that the model belongs to."
        />
      </div>
    </>
  );
}

export const modelTierKind: Kind<ModelTier, ModelTierForm> = {
  kind: 'model-tiers',
  one: 'model tier',
  many: 'model tiers',
  about:
    'A model tier is a class of models by price or size, such as premium or small. Policies can have conditions on it.',
  columns: [],
  nameOf: ({ name }) => name,
  order: BY_NAME,
  filters: [],
  toForm: (modelTier) => textFormOf(MODEL_TIER_NAMES, modelTier),
  toBody: bodyOfTexts,
  formPathOf: pathIn(MODEL_TIER_NAMES),
  Fields: ModelTierFields,
  related: ({ id }) => [{ label: 'Models', to: listLink('models', { modelTier: id }) }],
};

export const modelKind: Kind<Model, ModelForm> = {
  kind: 'models',
  one: 'model',
  many: 'models',
  about: 'Checks may also name models that are not listed. A listed model has a model tier.',
  columns: [referenceColumn('modelTier', 'Model tier', 'model-tiers')],
  nameOf: ({ name }) => name,
  order: BY_NAME,
  filters: [{ name: 'modelTier', label: 'Model tier', of: 'model-tiers' }],
  toForm: (model) => textFormOf(MODEL_NAMES, model),
  toBody: bodyOfTexts,
  formPathOf: pathIn(MODEL_NAMES),
  Fields: ModelFields,
  related: ({ modelTier }) => [
    { label: `Model tier ${modelTier}`, to: recordLink('model-tiers', modelTier) },
  ],
};
