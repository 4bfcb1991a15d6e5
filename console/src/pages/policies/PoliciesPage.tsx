/** The policies: read, made, changed and deleted. */
import { RecordsView } from '../records/RecordsView';
import styles from '../records/Records.module.css';
import { policyKind } from './policyKind';

export default function PoliciesPage(): React.JSX.Element {
  return (
    <div className={styles.page}>
      <h1>Policies</h1>
      <RecordsView kind={policyKind} />
    </div>
  );
}
