/** A modal dialog with a title; Escape and the close button end it. */
import { useEffect, useState, type ReactNode } from 'react';
import { Dialog as AriaDialog } from 'react-aria-components/Dialog';
import { Heading } from 'react-aria-components/Heading';
import { Modal, ModalOverlay } from 'react-aria-components/Modal';

import { Button } from './Button';
import { cx } from './cx';
import styles from './Dialog.module.css';

/**
 * Gives the focus back to where it was before the dialog. React Aria does so too, but where React defers its effects it
 * does while the page behind is still inert, and the focus is lost.
 */
function useFocusBack(): void {
  const [opener] = useState(() => document.activeElement);
  useEffect(
    () => () => {
      window.setTimeout(() => {
        const isLost = document.activeElement === document.body;
        if (isLost && opener instanceof HTMLElement && opener.isConnected)
          opener.focus({ preventScroll: true });
      });
    },
    [opener],
  );
}

export interface DialogProps {
  title: string;
  isOpen: boolean;
  onClose: () => void;
  /** Whether a press outside ends it too. Not where that would lose what was typed. */
  isDismissable?: boolean;
  size?: 'm' | 'l';
  children: ReactNode;
}

export function Dialog({
  title,
  isOpen,
  onClose,
  isDismissable = false,
  size = 'm',
  children,
}: DialogProps): React.JSX.Element {
  useFocusBack();
  const onOpenChange = (open: boolean): void => {
    if (!open) onClose();
  };
  return (
    <ModalOverlay
      className={cx(styles.overlay)}
      isOpen={isOpen}
      onOpenChange={onOpenChange}
      isDismissable={isDismissable}
    >
      <Modal className={cx(styles.modal, styles[size])}>
        <AriaDialog className={cx(styles.dialog)}>
          <div className={styles.head}>
            <Heading slot="title" className={cx(styles.title)}>
              {title}
            </Heading>
            <Button variant="quiet" aria-label="Close" onPress={onClose}>
              ✕
            </Button>
          </div>
          {children}
        </AriaDialog>
      </Modal>
    </ModalOverlay>
  );
}

/** The row of buttons at a dialog's end. */
export function DialogActions({ children }: { children: ReactNode }): React.JSX.Element {
  return <div className={styles.actions}>{children}</div>;
}
