/** Pieces that several kinds of the directory have in their tables and forms. */
import type { Control, FieldPath, FieldValues } from 'react-hook-form';
import { Link } from 'react-router';

import type { RecordKind } from '../../api/admin';
import { recordLink } from '../../app/links';
import type { Column, Order } from '../../ui/Table';
import { TextInput } from '../records/fields';
import styles from './Directory.module.css';

interface Named {
  id: string;
  name: string;
}

export const BY_NAME: Order = [{ id: 'name', desc: false }];

interface ReferenceColumnOptions {
  /** In place of one that is not there. */
  none?: string;
}

/** A field with the id of another record, which it opens. */
export function referenceColumn<Record extends object>(
  id: keyof Record & string,
  header: string,
  of: RecordKind,
  { none = '' }: ReferenceColumnOptions = {},
): Column<Record> {
  const idOf = (record: Record): string => (record[id] ?? '') as string;
  return {
    id,
    header,
    cell: (record) =>
      idOf(record) === '' ? (
        <span className={styles.none}>{none}</span>
      ) : (
        <Link to={recordLink(of, idOf(record))} className={styles.reference}>
          {idOf(record)}
        </Link>
      ),
    sortBy: idOf,
  };
}

interface PartProps<Form extends FieldValues> {
  control: Control<Form>;
  isNew: boolean;
  isDisabled: boolean;
}

/** The id and the name, which every kind has. */
export function IdAndName<Form extends FieldValues & Named>({
  control,
  isNew,
  isDisabled,
  use,
}: PartProps<Form> & {
  /** What the id is for: `Checks refer to it`. */
  use: string;
}): React.JSX.Element {
  return (
    <>
      <TextInput
        control={control}
        name={'id' as FieldPath<Form>}
        label="ID"
        isDisabled={isDisabled || !isNew}
        hint={isNew ? `Permanent. ${use}. If empty, the server generates one.` : 'The ID cannot be changed.'}
      />
      <TextInput
        control={control}
        name={'name' as FieldPath<Form>}
        label="Name"
        isDisabled={isDisabled}
        hint="Optional. Shown in lists; the ID if empty."
      />
    </>
  );
}
