/** Asks for the admin token, checks it with the server, and says why if the server does not take it. */
import { useForm } from 'react-hook-form';

import { checkToken } from '../api/admin';
import { ProblemError } from '../api/problem';
import { signIn, useSession } from '../api/token';
import { Button } from '../ui/Button';
import { describeError } from '../ui/errors';
import { FormField } from '../ui/Field';
import { Panel } from '../ui/Panel';
import styles from './SignIn.module.css';
import { takeWanted } from './wanted';

interface SignInForm {
  token: string;
}

/** Longer than any check of a token takes where a server answers at all. */
const DEADLINE_MS = 10_000;

/** Signs in with `token` if the server takes it; else says why it does not. */
async function trySignIn(token: string): Promise<string | null> {
  try {
    // What needs a token takes this panel's place as soon as there is one, so it is tried first.
    await checkToken(AbortSignal.timeout(DEADLINE_MS), token);
    signIn(token);
    return null;
  } catch (error) {
    if (error instanceof ProblemError && error.status === 401)
      return 'The server does not accept this token.';
    const { title, detail } = describeError(error);
    return detail === null ? title : `${title}: ${detail}`;
  }
}

export function SignInPanel({ what }: { what?: string }): React.JSX.Element {
  const { reason } = useSession();
  const { control, handleSubmit, setError, formState } = useForm<SignInForm>({
    defaultValues: { token: '' },
  });
  const submit = handleSubmit(async ({ token }) => {
    const refusal = await trySignIn(token.trim());
    if (refusal !== null) setError('token', { message: refusal });
    // The page that was wanted takes the place of this panel.
    else if (what !== undefined) takeWanted();
  });
  return (
    <Panel
      className={styles.panel}
      level={1}
      title={what === undefined ? 'Sign in' : `Sign in to open ${what}`}
    >
      {reason === 'refused' && (
        <p className={styles.refused} role="status">
          You were signed out because the server no longer accepts your token. It may have been restarted with
          a different one.
        </p>
      )}
      <p>
        The server prints a sign-in link when it starts. Open it, or paste the token here: the value of{' '}
        <code>TOLLGATE_ADMIN_TOKEN</code>, or of <code>TOLLGATE_ADMIN_READ_TOKEN</code> for read-only access.
      </p>
      <form className={styles.form} onSubmit={(event) => void submit(event)} noValidate>
        <FormField
          control={control}
          name="token"
          label="Admin token"
          type="password"
          autoComplete="off"
          rules={{ required: 'Enter the token.' }}
        />
        <Button type="submit" variant="primary" isPending={formState.isSubmitting}>
          Sign in
        </Button>
      </form>
      <p className={styles.note}>The token is kept in this tab only, until you close the tab or sign out.</p>
    </Panel>
  );
}
