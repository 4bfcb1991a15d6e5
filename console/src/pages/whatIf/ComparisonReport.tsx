/** What two sets of policies decide differently. */
import { Notice } from '../../ui/Notice';
import { Panel } from '../../ui/Panel';
import { Table, type Column } from '../../ui/Table';
import { formatNumber } from '../live/words';
import traffic from '../traffic/Traffic.module.css';
import { TimelineReport } from './TimelineReport';
import {
  changeWords,
  kindWords,
  subjectCountWords,
  subjectWords,
  verdictWords,
  type ComparedPolicy,
  type ComparedSubject,
  type ComparedSubjects,
  type Comparison,
} from './whatIf';
import styles from './WhatIf.module.css';

export function ComparisonReport({ report }: { report: Comparison }): React.JSX.Element {
  const { firstChange } = report;
  return (
    <div className={styles.report}>
      <Panel title="Result">
        <Figures report={report} />
        {report.isCut && (
          <Notice tone="warn">
            The traffic has more checks than are compared here: the rest was left out. Use{' '}
            <code>tollgate policies diff</code> for all of it.
          </Notice>
        )}
        {firstChange == null ? (
          <p>No decision differs.</p>
        ) : (
          <p>
            The first decision that differs is at {firstChange.at}, of {subjectWords(firstChange)} (line{' '}
            {firstChange.line}): {verdictWords(firstChange.old)} now, {verdictWords(firstChange.new)} with the
            other policies.
          </p>
        )}
      </Panel>
      {report.timeline !== null && <TimelineReport timeline={report.timeline} />}
      <Panel title="Policies">
        <Table
          label="What each policy did"
          columns={POLICY_COLUMNS}
          rows={report.policies}
          rowId={({ policyId }) => policyId}
          empty="There are no policies."
        />
      </Panel>
      {report.subjects
        .filter(({ count }) => count > 0)
        .map((subjects) => (
          <Subjects key={subjects.kind} subjects={subjects} />
        ))}
    </div>
  );
}

function Figures({ report }: { report: Comparison }): React.JSX.Element {
  const figures = [
    { label: 'Checks', value: formatNumber(report.checks) },
    { label: 'Allowed now', value: formatNumber(report.allowed.old) },
    { label: 'Allowed then', value: `${formatNumber(report.allowed.new)} (${changeWords(report.allowed)})` },
    { label: 'Tokens now', value: formatNumber(report.tokens.old) },
    { label: 'Tokens then', value: `${formatNumber(report.tokens.new)} (${changeWords(report.tokens)})` },
    { label: 'Checks lost', value: formatNumber(report.lost) },
    { label: 'Checks gained', value: formatNumber(report.gained) },
  ];
  return (
    <dl className={traffic.figures}>
      {figures.map(({ label, value }) => (
        <div key={label} className={traffic.figure}>
          <dt>{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Subjects({ subjects }: { subjects: ComparedSubjects }): React.JSX.Element {
  const { kind, count, losers, gainers, mixedSubjects, checksBeyond } = subjects;
  const rows = [...losers, ...gainers, ...mixedSubjects];
  const words = kindWords(kind);
  return (
    <Panel title={words}>
      <p className={styles.muted}>
        {formatNumber(count)} in all. {subjectCountWords(subjects)}
        {checksBeyond > 0 && ` ${formatNumber(checksBeyond)} checks of others are not counted one by one.`}
      </p>
      {rows.length > 0 && (
        <Table
          label={`${words} that would lose or gain`}
          columns={SUBJECT_COLUMNS}
          rows={rows}
          rowId={subjectWords}
        />
      )}
    </Panel>
  );
}

const POLICY_COLUMNS: readonly Column<ComparedPolicy>[] = [
  { id: 'policy', header: 'Policy', cell: ({ policyId }) => policyId, sortBy: ({ policyId }) => policyId },
  { id: 'status', header: 'Is', cell: ({ status }) => status, sortBy: ({ status }) => status },
  numbers('Applied now', ({ checks }) => checks.old),
  numbers('Applied then', ({ checks }) => checks.new),
  numbers('Denied now', ({ refused }) => refused.old),
  numbers('Denied then', ({ refused }) => refused.new),
  numbers('Lost', ({ lost }) => lost),
  numbers('Gained', ({ gained }) => gained),
];

const SUBJECT_COLUMNS: readonly Column<ComparedSubject>[] = [
  { id: 'who', header: 'Who', cell: subjectWords, sortBy: subjectWords },
  numbers('Checks', ({ checks }) => checks),
  numbers('Allowed now', ({ allowed }) => allowed.old),
  numbers('Allowed then', ({ allowed }) => allowed.new),
  {
    id: 'change',
    header: 'Change',
    align: 'end',
    cell: ({ allowed }) => changeWords(allowed),
    sortBy: ({ allowed }) => allowed.new - allowed.old,
  },
  {
    id: 'tokens',
    header: 'Change of tokens',
    align: 'end',
    cell: ({ tokens }) => changeWords(tokens),
    sortBy: ({ tokens }) => tokens.new - tokens.old,
  },
];

function numbers<Row>(header: string, of: (row: Row) => number): Column<Row> {
  return { id: header, header, align: 'end', cell: (row) => formatNumber(of(row)), sortBy: of };
}
