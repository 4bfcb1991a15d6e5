/** An address that no page has. */
import { Link } from 'react-router';

import { EmptyState } from '../ui/EmptyState';

export function NotFound(): React.JSX.Element {
  return (
    <>
      <h1 className="visually-hidden">Not found</h1>
      <EmptyState title="Page not found">
        <Link to="/">Go to the playground</Link>
      </EmptyState>
    </>
  );
}
