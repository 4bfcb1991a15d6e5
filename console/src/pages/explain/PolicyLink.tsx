/** A policy's id, as a link to its form; plain where there is no record, as for the one that holds without any. */
import { Link } from 'react-router';

import styles from './Explain.module.css';
import type { Considered } from './explanation';

/** The address of the form of the policy `id`. */
export function policyAddress(id: string): string {
  return `/policies?${new URLSearchParams({ open: id }).toString()}`;
}

export function PolicyLink({
  considered: { answer, policy },
}: {
  considered: Considered;
}): React.JSX.Element {
  const { policyId } = answer;
  if (policy === null) return <span className={styles.policy}>{policyId}</span>;
  return (
    <Link className={styles.policy} to={policyAddress(policyId)}>
      {policyId}
    </Link>
  );
}
