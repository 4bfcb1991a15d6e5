//! Finds the end of the login in a URL, and decodes percent-encoding. Passwords may contain any characters, encoded or
//! not.

use super::UrlProblem;

/// What ends the hosts.
const AFTER_HOSTS: [char; 3] = ['/', '?', '#'];

/// Parses `text`, which follows `://`, with `read`, which gets the login, if there is one, and the rest.
///
/// The login ends at the last `@`, so that a password may contain `@`, `/`, `?`, `#` and `:` without encoding. But
/// according to the standard, an `@` after the hosts belongs to the path or the query. A URL that can be read both ways
/// is refused, because half of a password must not be taken for a host, which messages show.
pub(super) fn login<T>(
    text: &str,
    read: impl Fn(Option<&str>, &str) -> Result<T, UrlProblem>,
) -> Result<T, UrlProblem> {
    let at = |end: usize| match text[..end].rfind('@') {
        Some(at) => (Some(&text[..at]), &text[at + 1..]),
        None => (None, text),
    };
    let hosts_end = text.find(AFTER_HOSTS).unwrap_or(text.len());
    let (login, rest) = at(text.len());
    let user = login.and_then(|login| login.split(':').next()).unwrap_or_default();
    let (by_standard, rest_by_standard) = at(hosts_end);
    // If the user contained one of the characters that end the hosts, the standard would see no login.
    if login == by_standard || by_standard.is_none() && user.contains(AFTER_HOSTS) {
        return read(by_standard, rest_by_standard);
    }
    let as_standard = read(by_standard, rest_by_standard);
    match read(login, rest) {
        Ok(read) if as_standard.is_err() => Ok(read),
        Err(problem) if as_standard.is_err() => Err(problem),
        _ => Err(UrlProblem::new(
            "it can be read in two ways: write `@`, `/`, `?` and `#` within a user, a password or an option as %40, %2F, \
             %3F or %23",
        )),
    }
}

/// `text` with its `%XX` decoded. A text without any may contain a raw `%`.
pub(super) fn decoded(text: &str, place: &str) -> Result<String, UrlProblem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let (mut encoded, mut plain) = (false, false);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match after {
            [high, low, after @ ..] if byte == b'%' => {
                if let Some(decoded) = hexadecimal(*high, *low) {
                    bytes.push(decoded);
                    (encoded, rest) = (true, after);
                    continue;
                }
                plain = true;
            }
            _ => plain |= byte == b'%',
        }
        bytes.push(byte);
    }
    if encoded && plain {
        let problem = format!("its {place} is only partly percent-encoded: write %25 for a `%`");
        return Err(UrlProblem::new(problem));
    }
    String::from_utf8(bytes)
        .map_err(|_| UrlProblem::new(format!("its {place} is not percent-encoded UTF-8")))
}

fn hexadecimal(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}
