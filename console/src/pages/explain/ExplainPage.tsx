/** Explain: what would become of a check, and why, policy by policy. Charges nothing. */
import { useCallback, useState } from 'react';
import { Link } from 'react-router';

import { OfflineError } from '../../api/problem';
import { cx } from '../../ui/cx';
import { EmptyState } from '../../ui/EmptyState';
import { describeError } from '../../ui/errors';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import { Skeleton } from '../../ui/Skeleton';
import { checkOf, type Check, type CheckForm } from '../check/check';
import { useCheckForm } from '../check/useCheckForm';
import { AskPanel } from './AskPanel';
import { Considerations } from './Considerations';
import styles from './Explain.module.css';
import { ResolvedPanel } from './ResolvedPanel';
import { useExplanation, usePolicies, type ExplanationState, type KnownPolicies } from './useExplanation';
import { VerdictPanel } from './VerdictPanel';

/** The check that is asked about; null while it does not say who asks for what. */
function askedOf(form: CheckForm): Check | null {
  return form.user === '' || form.model === '' ? null : checkOf(form);
}

export default function ExplainPage(): React.JSX.Element {
  const [opened, setOpened] = useState<CheckForm | null>(null);
  const { form, values } = useCheckForm(setOpened);
  const [initial] = useState(values);
  const check = askedOf(opened ?? initial);
  const state = useExplanation(check);
  const policies = usePolicies(state.data?.explanation.policiesVersion);
  const { refetch } = state;
  const ask = useCallback(
    (asked: CheckForm): void => {
      setOpened(structuredClone(asked));
      refetch();
    },
    [refetch],
  );
  return (
    <div className={styles.page}>
      <h1 className="visually-hidden">Explain</h1>
      <div className={styles.side}>
        <AskPanel form={form} values={values} error={state.error} onAsk={ask} />
        {state.data !== undefined && <ResolvedPanel explained={state.data} />}
      </div>
      <div className={cx(styles.main, state.isOld && styles.old)}>
        <Answer isAsked={check !== null} state={state} policies={policies} />
      </div>
    </div>
  );
}

interface AnswerProps {
  isAsked: boolean;
  state: ExplanationState;
  policies: KnownPolicies;
}

function Answer({ isAsked, state, policies }: AnswerProps): React.JSX.Element {
  const { data, error, refetch } = state;
  if (!isAsked) {
    return (
      <EmptyState title="Which check?">
        Say which user asks for which model. Nothing is charged: you only see what would become of it.
      </EmptyState>
    );
  }
  if (data === undefined) {
    if (error === null) return <Skeleton lines={8} label="Explaining the check" />;
    return <ErrorState error={error} onRetry={refetch} />;
  }
  return (
    <>
      {error !== null && <Stale error={error} />}
      {data.explanation.degraded && (
        <Notice tone="warn">
          The store did not answer in time: usage is not known, and the failure mode would decide.
        </Notice>
      )}
      {policies.error !== null && (
        <Notice tone="warn">
          The policies themselves could not be read, so this is in the server&rsquo;s words alone:{' '}
          {describeError(policies.error).title}.
        </Notice>
      )}
      {policies.isEmpty && (
        <Notice>
          The catalog has no policy, so the one that is built in holds.{' '}
          <Link to="/policies?new=1">Make one</Link>.
        </Notice>
      )}
      <VerdictPanel explained={data} policies={policies.byId} />
      {policies.isPending ? (
        <Skeleton lines={6} label="Reading the policies" />
      ) : (
        <Considerations explained={data} policies={policies.byId} />
      )}
    </>
  );
}

function Stale({ error }: { error: Error }): React.JSX.Element {
  const why = error instanceof OfflineError ? 'the server does not answer' : error.message;
  return <Notice tone="bad">This is from before: {why}.</Notice>;
}
