/** A button. `isPending` keeps the focus and says that something is under way. */
import { Button as AriaButton, type ButtonProps as AriaButtonProps } from 'react-aria-components/Button';

import { cx } from './cx';
import styles from './Button.module.css';

export interface ButtonProps extends Omit<AriaButtonProps, 'className' | 'style'> {
  variant?: 'primary' | 'secondary' | 'quiet' | 'danger';
}

export function Button({ variant = 'secondary', ...props }: ButtonProps): React.JSX.Element {
  return <AriaButton {...props} className={cx(styles.button, styles[variant])} />;
}
