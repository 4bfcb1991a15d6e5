/** From a record to what has to do with it. */
import { Link } from 'react-router';

import type { Related } from './kind';
import styles from './Records.module.css';

export function RelatedLinks({
  label,
  links,
}: {
  label: string;
  links: readonly Related[];
}): React.JSX.Element {
  return (
    <nav aria-label={label}>
      <ul className={styles.related}>
        {links.map(({ label: words, to }) => (
          <li key={to}>
            <Link to={to}>{words}</Link>
          </li>
        ))}
      </ul>
    </nav>
  );
}
