/** Short messages that pass: `toast('Saved')`. What must be read stays on the page instead. */
import { useSyncExternalStore } from 'react';

import { Button } from './Button';
import { cx } from './cx';
import styles from './Toast.module.css';

interface ToastMessage {
  id: number;
  text: string;
  tone: 'ok' | 'bad';
}

const SHOWN_MS = 6_000;
/** The most that are shown at a time; the oldest go first. */
const MAX_SHOWN = 4;

const listeners = new Set<() => void>();
let messages: readonly ToastMessage[] = [];
let nextId = 1;

function change(next: readonly ToastMessage[]): void {
  messages = next;
  for (const listener of listeners) listener();
}

function dismiss(id: number): void {
  change(messages.filter((message) => message.id !== id));
}

export function toast(text: string, tone: ToastMessage['tone'] = 'ok'): void {
  const message = { id: nextId++, text, tone };
  change([...messages, message].slice(-MAX_SHOWN));
  window.setTimeout(() => dismiss(message.id), SHOWN_MS);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function Toasts(): React.JSX.Element {
  const shown = useSyncExternalStore(subscribe, () => messages);
  return (
    <div className={styles.toasts} role="log" aria-label="Notifications">
      {shown.map(({ id, text, tone }) => (
        <div key={id} className={cx(styles.toast, styles[tone])}>
          <span>{text}</span>
          <Button variant="quiet" aria-label="Dismiss" onPress={() => dismiss(id)}>
            ✕
          </Button>
        </div>
      ))}
    </div>
  );
}
