/** The form of one record: what is wrong is said at the field, and what is refused is explained. */
import { useEffect, useRef, useState, type ReactNode, type RefObject } from 'react';
import { useForm, type DefaultValues, type FieldValues } from 'react-hook-form';

import type { Access } from '../../api/access';
import { addressOf, type Versioned } from '../../api/admin';
import { ProblemError } from '../../api/problem';
import { changesLink } from '../../app/links';
import { Button } from '../../ui/Button';
import { DialogActions } from '../../ui/Dialog';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import { toast } from '../../ui/Toast';
import { ConflictView } from './ConflictView';
import { serverWords } from './fieldWords';
import type { Item, Kind } from './kind';
import { ProblemsContext } from './problems';
import { RecordActions } from './RecordActions';
import styles from './Records.module.css';
import { RelatedLinks } from './RelatedLinks';
import { useLeaveGuard } from './useLeaveGuard';
import { useLiveProblems, type Refusal } from './useLiveProblems';
import { useSave, type Conflict } from './useSave';

export interface RecordFormProps<Record extends Item, Form extends FieldValues> {
  kind: Kind<Record, Form>;
  /** Null for a new one. */
  loaded: Versioned<Record> | null;
  access: Access;
  onClose: () => void;
  /** Called with what the server keeps now; null if it was deleted. */
  onChanged: (record: Record | null) => void;
}

export function RecordForm<Record extends Item, Form extends FieldValues>(
  props: RecordFormProps<Record, Form>,
): React.JSX.Element {
  const { kind, loaded, access, onClose, onChanged } = props;
  const isNew = loaded === null;
  const form = useForm<Form>({
    defaultValues: kind.toForm(loaded?.record ?? null) as DefaultValues<Form>,
  });
  const { control, formState, handleSubmit } = form;
  const saving = useSave<Record>(
    kind.kind,
    loaded === null ? null : addressOf(kind.kind, loaded.record),
    loaded?.etag ?? null,
  );
  const [tried, setTried] = useState<Form | null>(null);
  const refusal: Refusal<Form> | null = tried === null ? null : { error: saving.error, form: tried };
  const problems = useLiveProblems(kind, control, refusal);
  const guard = useLeaveGuard(formState.isDirty && !formState.isSubmitSuccessful);
  const element = useRef<HTMLFormElement>(null);
  useFocusOnRefusal(element, saving.error, formState.submitCount);

  const leaveWith = (record: Record | null, words: string): void => {
    guard.letGo();
    onChanged(record);
    toast(words);
    onClose();
  };
  const finish = (saved: Record | null): void => {
    if (saved !== null) leaveWith(saved, `Saved ${kind.one} ${saved.id}`);
  };
  const submit = handleSubmit(async (values) => {
    setTried(structuredClone(values));
    finish(await saving.save(kind.toBody(values)));
  });
  const takeTheirs = (): void => {
    const theirs = saving.conflict?.theirs ?? null;
    saving.goOn();
    if (theirs === null) {
      guard.letGo();
      onChanged(null);
      onClose();
    } else {
      form.reset(kind.toForm(theirs.record));
    }
  };

  if (saving.conflict !== null) {
    return (
      <>
        <ConflictView
          one={kind.one}
          conflict={editable(kind, saving.conflict)}
          error={saving.error}
          onTakeTheirs={takeTheirs}
          onOverwrite={() => void saving.overwrite().then(finish)}
          onGoOn={saving.goOn}
        />
        {guard.question}
      </>
    );
  }
  return (
    <form ref={element} className={styles.stack} noValidate onSubmit={(event) => void submit(event)}>
      {loaded !== null && (
        <RelatedLinks
          label={`Related to ${kind.one} ${loaded.record.id}`}
          links={[
            ...(kind.related?.(loaded.record) ?? []),
            { label: 'Changes', to: changesLink(kind.kind, loaded.record.id) },
          ]}
        />
      )}
      <ProblemsContext value={problems.at}>
        <kind.Fields control={control} isNew={isNew} isDisabled={!access.canWrite} />
      </ProblemsContext>
      {problems.elsewhere.length > 0 && (
        <Notice tone="bad">
          <ul>
            {problems.elsewhere.map((problem) => (
              <li key={problem.field}>
                <code>{problem.field}</code>: {serverWords(problem)}
              </li>
            ))}
          </ul>
        </Notice>
      )}
      {access.why !== null && <Notice>{access.why}</Notice>}
      <DialogActions>
        <div className={styles.outcome}>
          <Refused error={saving.error} one={kind.one} isNew={isNew} />
        </div>
        {loaded !== null && (
          <RecordActions kind={kind} loaded={loaded} access={access} onChanged={leaveWith} />
        )}
        <Button onPress={onClose}>{access.canWrite ? 'Cancel' : 'Close'}</Button>
        <Button
          type="submit"
          variant="primary"
          isDisabled={!access.canWrite}
          isPending={formState.isSubmitting}
        >
          {isNew ? `Create ${kind.one}` : 'Save'}
        </Button>
      </DialogActions>
      {guard.question}
    </form>
  );
}

/** `conflict` with both versions as the form sends them: what nobody can change cannot differ. */
function editable<Record extends Item, Form extends FieldValues>(
  kind: Kind<Record, Form>,
  { theirs, mine }: Conflict<Record>,
): Conflict<object> {
  if (theirs === null) return { theirs, mine };
  return { theirs: { ...theirs, record: kind.toBody(kind.toForm(theirs.record)) }, mine };
}

/**
 * Moves the focus to the first field that is to blame for a refusal: as one reads, whatever order the server tells them
 * in. Fields show what is wrong with them once `submitCount` has counted the attempt.
 */
function useFocusOnRefusal(
  form: RefObject<HTMLFormElement | null>,
  error: unknown,
  submitCount: number,
): void {
  useEffect(() => {
    if (!(error instanceof ProblemError)) return;
    form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [form, error, submitCount]);
}

/** Why the server did not keep it, unless that is said at the fields. */
function Refused({ error, one, isNew }: { error: unknown; one: string; isNew: boolean }): ReactNode {
  if (error === null) return null;
  if (error instanceof ProblemError && error.errors.length > 0) {
    const count = error.errors.length;
    return (
      <p className={styles.refused} role="alert">
        Not saved: {count === 1 ? '1 field needs' : `${count} fields need`} a different value.
      </p>
    );
  }
  if (!(error instanceof ProblemError) || error.status !== 409) return <ErrorState error={error} />;
  if (isNew) return <ErrorState error={error} title={`Not saved: a ${one} with this ID already exists`} />;
  return (
    <ErrorState
      error={error}
      title={`Not saved: other records depend on the current values of this ${one}`}
    />
  );
}
