/** Every policy that was considered besides the one that decides, group by group, and a search through them. */
import { useCallback, useDeferredValue, useMemo } from 'react';

import { useSearchState } from '../../app/searchState';
import { SearchField } from '../../ui/SearchField';
import type { Policy } from '../policies/policy';
import { CardGroup } from './CardGroup';
import styles from './Explain.module.css';
import {
  consideredById,
  groupsOf,
  precedenceInWords,
  searched,
  type Considered,
  type ConsideredPolicy,
} from './explanation';
import { effectOf, obstacleInWords } from './explanationWords';
import { PolicyLink } from './PolicyLink';
import { TableGroup } from './TableGroup';
import type { Explained } from './useExplanation';

/** With fewer there is nothing to search. */
const SEARCHED_FROM = 8;

export interface ConsiderationsProps {
  explained: Explained;
  policies: ReadonlyMap<string, Policy>;
}

/** What a search looks through. */
function textOf(considered: Considered): string {
  const { answer } = considered;
  return [answer.policyId, effectOf(considered) ?? '', answer.why, answer.key ?? ''].join(' ');
}

export function Considerations({ explained, policies }: ConsiderationsProps): React.JSX.Element {
  const { explanation } = explained;
  const { get, set } = useSearchState();
  const search = get('find');
  const wanted = useDeferredValue(search);
  const groups = useMemo(() => groupsOf(explanation, policies), [explanation, policies]);
  const found = useMemo(() => searched(groups, wanted, textOf), [groups, wanted]);
  const onSearch = useCallback((find: string) => set({ find }, { replace: true }), [set]);
  const overriders = useMemo(() => consideredById(explanation, policies), [explanation, policies]);
  const overriddenWhy = useCallback(
    ({ answer }: Considered) => <Overrider answer={answer} one={overriders.get(answer.overriddenBy ?? '')} />,
    [overriders],
  );
  const { subject } = explanation;
  const custom = explained.check.attributes ?? undefined;
  const obstacle = useCallback((one: Considered) => obstacleInWords(one, subject, custom), [subject, custom]);
  const isSearched = wanted.trim() !== '';
  const common = { explained, isSearched };
  return (
    <div className={styles.groups}>
      {(explanation.policies.length >= SEARCHED_FROM || search !== '') && (
        <div className={styles.search}>
          <SearchField label="Search the policies" value={search} onChange={onSearch} />
        </div>
      )}
      <CardGroup
        title="Also apply"
        about="A check is allowed only if all of these limits allow it."
        all={groups.applies}
        shown={found.applies}
        {...common}
      />
      <CardGroup
        title="In shadow mode"
        about="These policies count and report, but never deny."
        all={groups.shadow}
        shown={found.shadow}
        {...common}
      />
      <CardGroup
        title="Exemptions"
        about="These policies lift the limits that they override."
        all={groups.exempts}
        shown={found.exempts}
        {...common}
      />
      <TableGroup
        title="Overridden"
        about="These policies match, but a more specific one with the same attributes, unit and window overrides them, or one that names them."
        why="Overridden by"
        all={groups.overridden}
        shown={found.overridden}
        cell={overriddenWhy}
        isOpenAtFirst
        isSearched={isSearched}
      />
      <TableGroup
        title="Do not apply"
        about="The check does not meet their conditions, or lacks an attribute that they count by."
        why="Why not"
        all={groups.differs}
        shown={found.differs}
        cell={obstacle}
        isSearched={isSearched}
      />
      <TableGroup
        title="Disabled"
        about="These policies have no effect until they are enabled."
        why="Why not"
        all={groups.off}
        shown={found.off}
        cell={() => 'disabled'}
        isSearched={isSearched}
      />
    </div>
  );
}

function Overrider({
  answer,
  one,
}: {
  answer: ConsideredPolicy;
  one: Considered | undefined;
}): React.JSX.Element {
  if (one === undefined) return <>{answer.why}</>;
  return (
    <>
      <PolicyLink considered={one} />, which {precedenceInWords(answer)}
    </>
  );
}
