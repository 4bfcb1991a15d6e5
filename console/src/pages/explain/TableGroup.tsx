/** Policies that take no part, folded: there may be thousands, of which only those in sight are drawn. */
import { useMemo, useState, type ReactNode } from 'react';

import { Table, type Column } from '../../ui/Table';
import styles from './Explain.module.css';
import type { Considered } from './explanation';
import { countInWords, effectOf } from './explanationWords';
import { PolicyLink } from './PolicyLink';

export interface TableGroupProps {
  title: string;
  about: string;
  /** The heading of what `cell` says. */
  why: string;
  all: readonly Considered[];
  /** Those that the search finds. */
  shown: readonly Considered[];
  cell: (considered: Considered) => ReactNode;
  isSearched: boolean;
  isOpenAtFirst?: boolean;
}

function idOf({ answer }: Considered): string {
  return answer.policyId;
}

export function TableGroup(props: TableGroupProps): React.JSX.Element | null {
  const { title, about, why, all, shown, cell, isSearched, isOpenAtFirst = false } = props;
  const [chosen, setChosen] = useState<boolean | null>(null);
  const isOpen = chosen ?? (isOpenAtFirst || (isSearched && shown.length > 0));
  const columns = useMemo(
    (): readonly Column<Considered>[] => [
      {
        id: 'policy',
        header: 'Policy',
        cell: (one) => <PolicyLink considered={one} />,
        sortBy: idOf,
      },
      {
        id: 'why',
        header: why,
        cell,
        sortBy: ({ answer }) => answer.why,
      },
      {
        id: 'effect',
        header: 'What it does',
        cell: (one) => <span className={styles.muted}>{effectOf(one)}</span>,
      },
    ],
    [why, cell],
  );
  if (all.length === 0) return null;
  return (
    <details className={styles.folded} open={isOpen}>
      {/* The state decides, not the element: a search opens what it finds something in. */}
      <summary
        onClick={(event) => {
          event.preventDefault();
          setChosen(!isOpen);
        }}
      >
        <h2>
          {title} <span className={styles.count}>{countInWords(all.length, shown.length, isSearched)}</span>
        </h2>
      </summary>
      {isOpen && shown.length > 0 && (
        <div className={styles.group}>
          <p className={styles.note}>{about}</p>
          <Table label={title} columns={columns} rows={shown} rowId={idOf} />
        </div>
      )}
    </details>
  );
}
