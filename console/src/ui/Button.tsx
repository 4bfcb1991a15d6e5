/** A button. `isPending` keeps the focus and says that something is under way. */
import { Button as AriaButton, type ButtonProps as AriaButtonProps } from 'react-aria-components/Button';

import { cx } from './cx';
import styles from './Button.module.css';

export interface ButtonProps extends Omit<AriaButtonProps, 'className' | 'style'> {
  variant?: 'primary' | 'secondary' | 'quiet' | 'danger';
}

export function Button({
  variant = 'secondary',
  isPending = false,
  onPress,
  type = 'button',
  ...props
}: ButtonProps): React.JSX.Element {
  // React Aria's own `isPending` is left alone: what it announces names this button, which may be gone by then.
  const behaviour = isPending
    ? { type: 'button' as const, 'aria-disabled': true }
    : { type, ...(onPress === undefined ? {} : { onPress }) };
  return <AriaButton {...props} {...behaviour} className={cx(styles.button, styles[variant])} />;
}
