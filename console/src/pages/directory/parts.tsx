/** Pieces that several kinds of the directory have in their tables and forms. */
import type { Control, FieldPath, FieldValues } from 'react-hook-form';
import { Link } from 'react-router';

import type { RecordKind } from '../../api/admin';
import { recordLink } from '../../app/links';
import type { Column } from '../../ui/Table';
import { TextInput } from '../records/fields';
import styles from './Directory.module.css';

interface Named {
  id: string;
  name: string;
}

/** What people call it, where that is not the id once more. */
export function nameColumn<Record extends Named>(): Column<Record> {
  return {
    id: 'name',
    header: 'Name',
    cell: ({ id, name }) => (name === id ? '' : <span className={styles.name}>{name}</span>),
    sortBy: ({ name }) => name,
  };
}

interface ReferenceColumnOptions {
  /** In place of one that is not there. */
  none?: string;
  isMinor?: boolean;
}

/** A field with the id of another record, which it opens. */
export function referenceColumn<Record extends object>(
  id: keyof Record & string,
  header: string,
  of: RecordKind,
  { none = '', isMinor = false }: ReferenceColumnOptions = {},
): Column<Record> {
  const idOf = (record: Record): string => (record[id] ?? '') as string;
  return {
    id,
    header,
    isMinor,
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
  /** Who names a record by its id: `Checks name it so`. */
  use: string;
}): React.JSX.Element {
  return (
    <>
      <TextInput
        control={control}
        name={'id' as FieldPath<Form>}
        label="Id"
        isDisabled={isDisabled || !isNew}
        hint={isNew ? `${use}, and it stays. Left empty, the server makes one.` : 'It cannot be changed.'}
      />
      <TextInput
        control={control}
        name={'name' as FieldPath<Form>}
        label="Name"
        isDisabled={isDisabled}
        hint="What people call it; the id if left empty."
      />
    </>
  );
}
