/**
 * A table with sorting whose rows are drawn only where they are seen, so that 10,000 of them cost no more than 50. On a
 * narrow page each row is a card with all its cells, so that nothing is cut off or left out.
 */
import {
  createSortedRowModel,
  rowSortingFeature,
  tableFeatures,
  useTable,
  type ColumnDef,
} from '@tanstack/react-table';
import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useMemo, useRef, type ReactNode } from 'react';

import { cx } from './cx';
import styles from './Table.module.css';

const features = tableFeatures({
  rowSortingFeature,
  sortedRowModel: createSortedRowModel(),
});

export interface Column<Row> {
  id: string;
  header: string;
  cell: (row: Row) => ReactNode;
  /** What the column sorts by; without it, it does not sort. */
  sortBy?: (row: Row) => string | number;
  align?: 'start' | 'end';
}

/** The columns to sort by until the reader chooses another one, the most important first. */
export type Order = readonly { id: string; desc: boolean }[];

const UNSORTED: Order = [];

export interface TableProps<Row> {
  /** What the table is of, for those who do not see it. */
  label: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  rowId: (row: Row) => string;
  order?: Order | undefined;
  /** Shown in place of the rows where there are none. */
  empty?: ReactNode;
  /** Called when the last rows come into sight, where more may be had. */
  onNearEnd?: (() => void) | undefined;
}

const ROW_HEIGHT_PX = 36;
const OVERSCAN_ROWS = 12;

const collator = new Intl.Collator(undefined, { numeric: true });

function compare(a: string | number, b: string | number): number {
  return typeof a === 'number' && typeof b === 'number' ? a - b : collator.compare(String(a), String(b));
}

function columnDefs<Row extends object>(columns: readonly Column<Row>[]): ColumnDef<typeof features, Row>[] {
  return columns.map(({ id, header, sortBy }) => ({
    id,
    header,
    accessorFn: sortBy ?? (() => ''),
    enableSorting: sortBy !== undefined,
    sortFn: (a, b, column) =>
      compare(a.getValue<string | number>(column), b.getValue<string | number>(column)),
  }));
}

const SORT_MARK = { asc: '↑', desc: '↓' } as const;
const ARIA_SORT = { asc: 'ascending', desc: 'descending' } as const;

export function Table<Row extends object>(props: TableProps<Row>): React.JSX.Element {
  'use no memo'; // The virtualizer and the table change inside while they stay the same objects.
  const { label, columns, rows, rowId, order = UNSORTED, empty, onNearEnd } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const definitions = useMemo(() => columnDefs(columns), [columns]);
  const table = useTable({
    features,
    columns: definitions,
    data: rows,
    getRowId: rowId,
    initialState: { sorting: [...order] },
  });
  const shown = table.getRowModel().rows;
  // eslint-disable-next-line react-hooks/incompatible-library -- the directive above keeps the compiler away
  const virtualizer = useVirtualizer({
    count: shown.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT_PX,
    overscan: OVERSCAN_ROWS,
  });
  const items = virtualizer.getVirtualItems();
  const before = items[0]?.start ?? 0;
  const after = virtualizer.getTotalSize() - (items.at(-1)?.end ?? 0);
  const isNearEnd = (items.at(-1)?.index ?? 0) >= shown.length - 1;
  useEffect(() => {
    if (isNearEnd) onNearEnd?.();
  }, [isNearEnd, onNearEnd]);
  const classOf = (column: Column<Row>): string => cx(column.align === 'end' && styles.end);

  if (rows.length === 0 && empty !== undefined) return <>{empty}</>;
  return (
    // A region that scrolls must be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div ref={scroller} className={styles.scroller} tabIndex={0} role="region" aria-label={label}>
      <table className={styles.table} aria-label={label} aria-rowcount={shown.length + 1}>
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id}>
              {group.headers.map((header, index) => {
                const column = columns[index];
                const sorted = header.column.getIsSorted();
                return (
                  <th
                    key={header.id}

                    scope="col"
                    className={column === undefined ? '' : classOf(column)}
                    aria-sort={sorted === false ? undefined : ARIA_SORT[sorted]}
                  >
                    {header.column.getCanSort() ? (
                      <button type="button" onClick={header.column.getToggleSortingHandler()}>
                        {column?.header}
                        <span aria-hidden="true" className={styles.mark}>
                          {sorted === false ? '' : SORT_MARK[sorted]}
                        </span>
                      </button>
                    ) : (
                      column?.header
                    )}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {before > 0 && <Spacer heightPx={before} columns={columns.length} />}
          {items.map((item) => {
            const row = shown[item.index];
            if (row === undefined) return null;
            return (
              <tr
                key={row.id}

                ref={virtualizer.measureElement}
                data-index={item.index}
                aria-rowindex={item.index + 2}
              >
                {columns.map((column) => (
                  <td key={column.id} data-label={column.header} className={classOf(column)}>
                    {column.cell(row.original)}
                  </td>
                ))}
              </tr>
            );
          })}
          {after > 0 && <Spacer heightPx={after} columns={columns.length} />}
        </tbody>
      </table>
    </div>
  );
}

/** Holds the place of rows that are not drawn. */
function Spacer({ heightPx, columns }: { heightPx: number; columns: number }): React.JSX.Element {
  return (
    <tr aria-hidden="true">
      <td colSpan={columns} className={styles.spacer} style={{ height: heightPx }} />
    </tr>
  );
}
