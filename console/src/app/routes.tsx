/** The pages. To add one: write `src/pages/<page>/<Page>Page.tsx` with a default export, and a line here. */
import type { ComponentType } from 'react';

export interface PageEntry {
  /** Below `#/`. A page with views of its own ends in `/*`. */
  readonly path: string;
  /** In the navigation and the document's title. */
  readonly label: string;
  /** Whether it needs the admin token; the shell then offers to sign in, in the page's place. */
  readonly needsToken: boolean;
  readonly load: () => Promise<{ default: ComponentType }>;
}

// prettier-ignore
export const pages: readonly PageEntry[] = [
  { path: '', label: 'Playground', needsToken: false, load: () => import('../pages/playground/PlaygroundPage') },
  { path: 'live', label: 'Live', needsToken: true, load: () => import('../pages/live/LivePage') },
  { path: 'explain', label: 'Explain', needsToken: true, load: () => import('../pages/explain/ExplainPage') },
  { path: 'leases', label: 'Leases', needsToken: true, load: () => import('../pages/leases/LeasesPage') },
  { path: 'traffic', label: 'Traffic', needsToken: true, load: () => import('../pages/traffic/TrafficPage') },
  { path: 'policies', label: 'Policies', needsToken: true, load: () => import('../pages/policies/PoliciesPage') },
  { path: 'what-if', label: 'What if', needsToken: true, load: () => import('../pages/whatIf/WhatIfPage') },
  { path: 'directory/*', label: 'Directory', needsToken: true, load: () => import('../pages/directory/DirectoryPage') },
  { path: 'audit', label: 'Audit', needsToken: true, load: () => import('../pages/audit/AuditPage') },
];
