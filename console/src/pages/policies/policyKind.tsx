/** Policies as a kind of record. */
import { Badge } from '../../ui/Badge';
import type { Column } from '../../ui/Table';
import type { Kind } from '../records/kind';
import styles from './Policies.module.css';
import { validatePolicy, type Policy } from './policy';
import { formOfPolicy, NEW_POLICY, policyFormPathOf, policyOfForm, type PolicyForm } from './policyForm';
import { PolicyFields } from './PolicyFields';
import { policyInWords } from './policyWords';

function headlineOf(policy: Policy): string {
  return policyInWords(policy).headline ?? '';
}

/** What `policy` does, and why it may do less than it seems to. */
function describe(policy: Policy): React.JSX.Element {
  return (
    <>
      {headlineOf(policy)}
      {(policy.warnings ?? []).map(({ field, problem }) => (
        <p key={`${field} ${problem}`} className={styles.warning}>
          {field === '' ? `It ${problem}.` : `${field}: ${problem}.`}
        </p>
      ))}
    </>
  );
}

/** What is out of the ordinary about `policy`. */
function marksOf(policy: Policy): string[] {
  return [
    policy.warnings === undefined ? '' : 'check it',
    policy.source === 'built-in' ? 'built-in' : '',
    policy.enabled === false ? 'disabled' : '',
    policy.mode === 'shadow' ? 'shadow' : '',
    policy.limit === 0 ? 'ban' : '',
    policy.exempt !== undefined ? 'exempt from all' : '',
    policy.limit === null && policy.exempt === undefined ? 'exempt' : '',
  ].filter(Boolean);
}

const columns: readonly Column<Policy>[] = [
  { id: 'words', header: 'What it does', cell: describe, sortBy: headlineOf },
  {
    id: 'state',
    header: 'State',
    cell: (policy) => (
      <span className={styles.badges}>
        {marksOf(policy).map((mark) => (
          <Badge key={mark} tone={mark === 'ban' ? 'bad' : 'warn'}>
            {mark}
          </Badge>
        ))}
      </span>
    ),
    sortBy: (policy) => marksOf(policy).join(),
  },
  {
    id: 'limit',
    header: 'Limit',
    align: 'end',
    cell: (policy) => policy.limit?.toLocaleString('en-US') ?? '∞',
    sortBy: (policy) => policy.limit ?? Infinity,
  },
  {
    id: 'conditions',
    header: 'Conditions',
    align: 'end',
    cell: (policy) => Object.keys(policy.match ?? {}).length,
    sortBy: (policy) => Object.keys(policy.match ?? {}).length,
  },
];

export const policyKind: Kind<Policy, PolicyForm> = {
  kind: 'policies',
  one: 'policy',
  many: 'policies',
  about: 'Without any, checks are not limited. A policy sets who may use how much, of what, in which time.',
  columns,
  filters: [],
  searchText: (policy) =>
    [policy.id, headlineOf(policy), policy.unit ?? 'requests', ...marksOf(policy)].join(' '),
  toForm: (policy) => (policy === null ? NEW_POLICY : formOfPolicy(policy)),
  toBody: policyOfForm,
  formPathOf: policyFormPathOf,
  Fields: PolicyFields,
  validate: validatePolicy,
};
