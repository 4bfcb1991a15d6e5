/** Tenants, users, API keys, tiers and models. The address says which of them is shown. */
import type { FieldValues } from 'react-hook-form';
import { Navigate, NavLink, useParams } from 'react-router';

import type { RecordKind } from '../../api/admin';
import { listLink } from '../../app/links';
import { NotFound } from '../../app/NotFound';
import { cx } from '../../ui/cx';
import type { Item, Kind } from '../records/kind';
import records from '../records/Records.module.css';
import { RecordsView } from '../records/RecordsView';
import { apiKeyKind } from './apiKeyKind';
import styles from './Directory.module.css';
import { modelKind, modelTierKind } from './modelKinds';
import { tenantKind } from './tenantKind';
import { tierKind } from './tierKind';
import { userKind } from './userKind';

interface Section {
  kind: RecordKind;
  label: string;
  /** What such a record is. */
  what: string;
  view: () => React.JSX.Element;
}

function section<Record extends Item, Form extends FieldValues>(
  kind: Kind<Record, Form>,
  label: string,
  what: string,
): Section {
  return { kind: kind.kind, label, what, view: () => <RecordsView key={kind.kind} kind={kind} /> };
}

const SECTIONS: readonly Section[] = [
  section(tenantKind, 'Tenants', 'Customers or organizations. Checks refer to them as tenantId.'),
  section(userKind, 'Users', 'Users of tenants. Checks refer to them as userId.'),
  section(apiKeyKind, 'API keys', 'Secrets that identify the caller. Checks send them as apiKey.'),
  section(tierKind, 'Tiers', 'Subscription classes of tenants, users and API keys.'),
  section(modelKind, 'Models', 'What the caller asks for. Checks refer to it as modelId.'),
  section(modelTierKind, 'Model tiers', 'Classes of models by price or size.'),
];

export default function DirectoryPage(): React.JSX.Element {
  const { '*': path = '' } = useParams();
  const shown = SECTIONS.find(({ kind }) => kind === path);
  if (path === '') return <Navigate to={listLink('tenants')} replace />;
  if (shown === undefined) return <NotFound />;
  return (
    <div className={records.page}>
      <h1>Directory</h1>
      <nav aria-label="Kinds of record">
        <ul className={styles.kinds}>
          {SECTIONS.map(({ kind, label }) => (
            <li key={kind}>
              <NavLink to={listLink(kind)} className={cx(styles.kind)}>
                {label}
              </NavLink>
            </li>
          ))}
        </ul>
      </nav>
      <p className={styles.what}>{shown.what}</p>
      {shown.view()}
    </div>
  );
}
