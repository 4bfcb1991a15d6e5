/** Explain: whether a check would be allowed, and why, policy by policy. Charges nothing. */
import { useCallback, useState } from 'react';
import { Link } from 'react-router';

import { OfflineError } from '../../api/problem';
import { useSearchState } from '../../app/searchState';
import { cx } from '../../ui/cx';
import { EmptyState } from '../../ui/EmptyState';
import { describeError } from '../../ui/errors';
import { ErrorState } from '../../ui/ErrorState';
import { Notice } from '../../ui/Notice';
import { Panel } from '../../ui/Panel';
import { Skeleton } from '../../ui/Skeleton';
import { checkOf, namesSubject, type Check, type CheckForm } from '../check/check';
import { pastDecisionInWords, pastDecisionOf, type PastDecision } from '../check/pastDecision';
import { useCheckForm } from '../check/useCheckForm';
import { AskPanel } from './AskPanel';
import { Considerations } from './Considerations';
import styles from './Explain.module.css';
import { ResolvedPanel } from './ResolvedPanel';
import { useExplanation, usePolicies, type ExplanationState, type KnownPolicies } from './useExplanation';
import { VerdictPanel } from './VerdictPanel';

/** The check that is asked about; null while it does not say who asks for what. */
function askedOf(form: CheckForm): Check | null {
  return namesSubject(form) ? checkOf(form) : null;
}

export default function ExplainPage(): React.JSX.Element {
  const { get, set } = useSearchState();
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
      // Another check is not the one that was decided then.
      set({ decision: null }, { replace: true });
      refetch();
    },
    [refetch, set],
  );
  const past = pastDecisionOf(get('decision'));
  return (
    <div className={styles.page}>
      <h1 className="visually-hidden">Explain</h1>
      <div className={styles.side}>
        <AskPanel form={form} values={values} error={state.error} onAsk={ask} />
        {state.data !== undefined && <ResolvedPanel explained={state.data} />}
      </div>
      <div className={cx(styles.main, state.isOld && styles.old)}>
        {past !== null && <PastPanel past={past} />}
        <Answer isAsked={check !== null} state={state} policies={policies} />
      </div>
    </div>
  );
}

/** What was decided when the check was made; what is below it is about the same check now. */
function PastPanel({ past }: { past: PastDecision }): React.JSX.Element {
  return (
    <Panel title="This decision">
      <p>{pastDecisionInWords(past)}</p>
      <p className={styles.note}>
        {past.hasApiKey && 'The check had an API key: enter it to explain exactly this check. '}
        Below is what the same check would get now.
      </p>
    </Panel>
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
      <EmptyState title="Enter a check">
        Enter a user, an API key or another attribute to see whether a check would be allowed, and why.
        Nothing is charged.
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
          The store is unavailable: usage is unknown, and the failure mode decides checks.
        </Notice>
      )}
      {policies.error !== null && (
        <Notice tone="warn">
          The policies could not be loaded, so some details are missing: {describeError(policies.error).title}
          .
        </Notice>
      )}
      {policies.isEmpty && (
        <Notice>
          There are no policies, so checks are not limited. <Link to="/policies?new=1">Create a policy</Link>.
        </Notice>
      )}
      <VerdictPanel explained={data} policies={policies.byId} />
      {policies.isPending ? (
        <Skeleton lines={6} label="Loading the policies" />
      ) : (
        <Considerations explained={data} policies={policies.byId} />
      )}
    </>
  );
}

function Stale({ error }: { error: Error }): React.JSX.Element {
  const why = error instanceof OfflineError ? 'the server is not responding' : error.message;
  return <Notice tone="bad">This may be out of date: {why}.</Notice>;
}
