/** Copies `text`; false where the browser does not let us, as on a page without TLS that is not on this machine. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
