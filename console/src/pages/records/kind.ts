/** What the one table and the one form of this folder must know of a kind of record. */
import type { ComponentType } from 'react';
import type { Control, FieldValues } from 'react-hook-form';

import type { RecordKind } from '../../api/admin';
import type { FieldProblem } from '../../api/problem';
import type { Column, Order } from '../../ui/Table';

export interface Item {
  id: string;
}

export interface Filter {
  /** As the server names it in the query. */
  name: string;
  label: string;
  /** The kind whose ids it takes. */
  of: RecordKind;
}

/** A change by one press, such as to revoke. */
export interface QuickChange<Record extends Item> {
  label: string;
  /** What it has done, in a message: `Revoked`. */
  done: string;
  isOffered: (record: Record) => boolean;
  /** What it does, in the question before it. */
  consequence: string;
  patch: object;
}

/** A way to records that have to do with one. */
export interface Related {
  label: string;
  to: string;
}

export interface FieldsProps<Form extends FieldValues> {
  control: Control<Form>;
  isNew: boolean;
  isDisabled: boolean;
}

export interface Kind<Record extends Item, Form extends FieldValues> {
  kind: RecordKind;
  /** In a sentence: `policy`, `policies`. */
  one: string;
  many: string;
  /** What such a record is for. */
  about: string;
  /** Besides the name or the id, which comes first. */
  columns: readonly Column<Record>[];
  /** What people call a record, where that is not its id. */
  nameOf?: (record: Record) => string;
  /** How the list is sorted at first; otherwise by id, as the server lists records. */
  order?: Order;
  filters: readonly Filter[];
  /** What a search looks through, where that is more than id and name: then it is made here and not by the server. */
  searchText?: (record: Record) => string;
  /** The form of a record, or of a new one. */
  toForm: (record: Record | null) => Form;
  /** What a form sends. */
  toBody: (form: Form) => object;
  /** The form's field for a field that the server names; null if the form has none. */
  formPathOf: (field: string, form: Form) => string | null;
  Fields: ComponentType<FieldsProps<Form>>;
  /** Asks the server what is wrong while one types, where it can be asked. */
  validate?: (body: object, signal: AbortSignal) => Promise<readonly FieldProblem[]>;
  quickChanges?: readonly QuickChange<Record>[];
  /** What refers to a record, and what it refers to. */
  related?: (record: Record) => readonly Related[];
}
