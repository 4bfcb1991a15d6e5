/** Chooses light, dark, or what the system says. */
import { chooseTheme, useThemeChoice, type ThemeChoice } from './theme';
import styles from './ThemeSwitch.module.css';

const CHOICES: readonly { value: ThemeChoice; label: string }[] = [
  { value: 'system', label: 'System theme' },
  { value: 'light', label: 'Light theme' },
  { value: 'dark', label: 'Dark theme' },
];

export function ThemeSwitch(): React.JSX.Element {
  const choice = useThemeChoice();
  return (
    <label className={styles.theme}>
      <span className="visually-hidden">Theme</span>
      <select value={choice} onChange={(event) => chooseTheme(event.target.value as ThemeChoice)}>
        {CHOICES.map(({ value, label }) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
    </label>
  );
}
