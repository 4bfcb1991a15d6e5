/** Copies a text and says whether it did. */
import { useEffect, useState } from 'react';

import { Button } from './Button';
import { copyText } from './clipboard';

const SHOWN_MS = 2_000;

export function CopyButton({ text, label = 'Copy' }: { text: string; label?: string }): React.JSX.Element {
  const [outcome, setOutcome] = useState<'none' | 'copied' | 'refused'>('none');
  useEffect(() => {
    if (outcome === 'none') return undefined;
    const timer = window.setTimeout(() => setOutcome('none'), SHOWN_MS);
    return () => window.clearTimeout(timer);
  }, [outcome]);
  const copy = async (): Promise<void> => setOutcome((await copyText(text)) ? 'copied' : 'refused');
  const words = { none: label, copied: 'Copied', refused: 'Cannot copy: select the text' };
  return (
    <Button variant="quiet" onPress={() => void copy()}>
      <span aria-live="polite">{words[outcome]}</span>
    </Button>
  );
}
