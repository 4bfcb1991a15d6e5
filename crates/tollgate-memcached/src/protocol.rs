//! The commands of memcached's text protocol that the store uses, and their answers. No I/O.
//!
//! Values are read and written with the meta commands (`mg`, `ms`, `md`), which return the CAS number of what was stored,
//! so that a key can be changed again without reading it.

use std::io::Write as _;

/// The longest line of an answer. Lines of `stats` are the longest.
const MAX_LINE_BYTES: usize = 2_048;
/// The largest value that is accepted, far above what the store writes.
const MAX_VALUE_BYTES: usize = 8 << 20;

/// Names one version of one value: it changes with each change of the value.
pub(crate) type Cas = u64;

/// A command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Command<'a> {
    /// Reads a value and its CAS number.
    Get { key: &'a str },
    /// Stores a value until `expires_at_s`, in seconds since the Unix epoch by memcached's clock. With 0 it never expires.
    Set { key: &'a str, value: &'a [u8], expires_at_s: u64, condition: Condition },
    /// Deletes a value that still has this CAS number.
    Delete { key: &'a str, cas: Cas },
    /// Server statistics; `""` for the general ones.
    Stats { of: &'a str },
}

/// When a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// In any case.
    Always,
    /// If there is none.
    Absent,
    /// If the present one has this CAS number.
    Unchanged(Cas),
}

impl Command<'_> {
    /// Appends the command to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        // Writing to a `Vec` cannot fail.
        let _ = match *self {
            Self::Get { key } => write!(out, "mg {key} v c\r\n"),
            Self::Set { key, value, expires_at_s, condition } => {
                let _ = write!(out, "ms {key} {} c T{expires_at_s}", value.len());
                let _ = match condition {
                    Condition::Always => Ok(()),
                    Condition::Absent => write!(out, " ME"),
                    Condition::Unchanged(cas) => write!(out, " C{cas}"),
                };
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(value);
                write!(out, "\r\n")
            }
            Self::Delete { key, cas } => write!(out, "md {key} C{cas}\r\n"),
            Self::Stats { of: "" } => write!(out, "stats\r\n"),
            Self::Stats { of } => write!(out, "stats {of}\r\n"),
        };
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `mg` found a value.
    Value(Vec<u8>, Cas),
    /// `ms` stored a value, which has this CAS number now, or `md` deleted one.
    Done(Option<Cas>),
    /// There is no value.
    Missing,
    /// The condition does not hold: the value was changed, is there, or is missing.
    Changed,
    /// The numbers and settings of `stats`.
    Stats(Vec<(String, String)>),
    /// memcached refused the command: its line.
    Refused(String),
}

/// An answer that is not one of memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The first answer in `bytes` and its length; `None` if it is not complete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    let Some((line, rest_at)) = line_at(bytes, 0)? else { return Ok(None) };
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let reply = match words.next() {
        Some("VA") => return value(bytes, words, rest_at),
        Some("HD") => Reply::Done(words.find_map(cas)),
        Some("EN" | "NF") => Reply::Missing,
        Some("NS" | "EX") => Reply::Changed,
        Some("ERROR" | "CLIENT_ERROR" | "SERVER_ERROR") => Reply::Refused(line.to_owned()),
        Some("STAT" | "END") => return stats(bytes),
        _ => return Err(Malformed),
    };
    Ok(Some((reply, rest_at)))
}

fn cas(word: &str) -> Option<Cas> {
    word.strip_prefix('c')?.parse().ok()
}

/// The line at `from`, without its end, and where the next one begins.
fn line_at(bytes: &[u8], from: usize) -> Result<Option<(&str, usize)>, Malformed> {
    let rest = bytes.get(from..).unwrap_or_default();
    let Some(length) = rest.iter().take(MAX_LINE_BYTES).position(|byte| *byte == b'\n') else {
        return if rest.len() < MAX_LINE_BYTES { Ok(None) } else { Err(Malformed) };
    };
    let line = std::str::from_utf8(&rest[..length]).map_err(|_| Malformed)?;
    Ok(Some((line.strip_suffix('\r').ok_or(Malformed)?, from + length + 1)))
}

fn value<'a>(
    bytes: &[u8],
    mut words: impl Iterator<Item = &'a str>,
    from: usize,
) -> Result<Option<(Reply, usize)>, Malformed> {
    let length: usize = words.next().and_then(|word| word.parse().ok()).ok_or(Malformed)?;
    let cas = words.find_map(cas).ok_or(Malformed)?;
    if length > MAX_VALUE_BYTES {
        return Err(Malformed);
    }
    let Some(value) = bytes.get(from..from + length + 2) else { return Ok(None) };
    let value = value.strip_suffix(b"\r\n").ok_or(Malformed)?;
    Ok(Some((Reply::Value(value.to_vec(), cas), from + length + 2)))
}

fn stats(bytes: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    let (mut found, mut from) = (Vec::new(), 0);
    loop {
        let Some((line, next)) = line_at(bytes, from)? else { return Ok(None) };
        if line == "END" {
            return Ok(Some((Reply::Stats(found), next)));
        }
        let stat = line.strip_prefix("STAT ").ok_or(Malformed)?;
        let (name, value) = stat.split_once(' ').unwrap_or((stat, ""));
        found.push((name.to_owned(), value.to_owned()));
        from = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(command: Command<'_>) -> String {
        let mut out = Vec::new();
        command.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commands_are_written_as_memcached_reads_them() {
        let set = |condition| Command::Set { key: "k", value: b"ab", expires_at_s: 7, condition };
        for (command, text) in [
            (Command::Get { key: "k" }, "mg k v c\r\n"),
            (set(Condition::Always), "ms k 2 c T7\r\nab\r\n"),
            (set(Condition::Absent), "ms k 2 c T7 ME\r\nab\r\n"),
            (set(Condition::Unchanged(9)), "ms k 2 c T7 C9\r\nab\r\n"),
            (Command::Delete { key: "k", cas: 9 }, "md k C9\r\n"),
            (Command::Stats { of: "" }, "stats\r\n"),
            (Command::Stats { of: "settings" }, "stats settings\r\n"),
        ] {
            assert_eq!(written(command), text);
        }
    }

    /// Each answer is parsed however it arrives: no part of it is one, and what follows it stays.
    #[test]
    fn answers_are_parsed_when_they_are_complete() {
        let stats = vec![("time".to_owned(), "12".to_owned()), ("a".to_owned(), String::new())];
        let refused = "SERVER_ERROR out of memory storing object";
        for (text, reply) in [
            ("VA 4 c12\r\n\r\nab\r\n", Reply::Value(b"\r\nab".to_vec(), 12)),
            ("VA 0 c1\r\n\r\n", Reply::Value(Vec::new(), 1)),
            ("HD c3\r\n", Reply::Done(Some(3))),
            ("HD\r\n", Reply::Done(None)),
            ("EN\r\n", Reply::Missing),
            ("NF\r\n", Reply::Missing),
            ("EX\r\n", Reply::Changed),
            ("NS\r\n", Reply::Changed),
            ("STAT time 12\r\nSTAT a\r\nEND\r\n", Reply::Stats(stats)),
            (&format!("{refused}\r\n"), Reply::Refused(refused.to_owned())),
            ("ERROR\r\n", Reply::Refused("ERROR".to_owned())),
        ] {
            for end in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..end]), Ok(None), "{text:?} until {end}");
            }
            let followed = format!("{text}EN\r\n");
            assert_eq!(parse(followed.as_bytes()), Ok(Some((reply, text.len()))), "{text:?}");
        }
    }

    #[test]
    fn what_memcached_never_answers_is_malformed() {
        let long = "x".repeat(MAX_LINE_BYTES);
        for text in [
            "-ERR unknown command\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
            "HD\n",
            "VA x c1\r\n",
            "VA 1\r\na\r\n",
            "VA 1 c1\r\nabc",
            "VA 99999999 c1\r\n",
            &long,
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Malformed), "{text:?}");
        }
    }
}
