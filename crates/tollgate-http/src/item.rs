//! One item of the two lists: a quoted policy id with parameters, as structured fields (RFC 9651).
//!
//! It is written byte by byte instead of with a serializer, because a server does this for every check.

use tollgate_core::subject::MAX_ID_BYTES;
use tollgate_core::{LimitStatus, Unit};

use crate::{Buffer, MAX_INTEGER, window_s};

/// The most bytes of one item: an id with every byte encoded, and the parameters.
pub(crate) const MAX_BYTES: usize =
    ", \"\"".len() + ENCODED_BYTES * MAX_ID_BYTES + MAX_PARAMETERS_BYTES;

const ENCODED_BYTES: usize = "%00".len();
const MAX_PARAMETERS_BYTES: usize =
    ";q=".len() + ";qu=\"\"".len() + ";w=".len() + 2 * INTEGER_DIGITS + Unit::MAX_NAME_BYTES;
const INTEGER_DIGITS: usize = 15;

/// Appends `"id";q=…;qu="…";w=…`, without `w` for concurrency.
pub(crate) fn write_policy(out: &mut Buffer, status: &LimitStatus) {
    let limit = &*status.limit;
    write_id(out, limit.policy_id().as_str());
    write_integer(out, b";q=", limit.amount().get());
    if *limit.unit() != Unit::Requests {
        // A unit's name contains only a-z, 0-9 and _, so nothing needs an escape. The standard has a name for slots.
        out.extend_from_slice(b";qu=\"");
        let name = match limit.unit() {
            Unit::Concurrency => "concurrent-requests",
            unit => unit.name(),
        };
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
    }
    if let Some(window_s) = window_s(status) {
        write_integer(out, b";w=", window_s);
    }
}

/// Appends `"id";r=…;t=…`, without `t` if there is no wait.
pub(crate) fn write_service_limit(out: &mut Buffer, status: &LimitStatus, wait_s: Option<u64>) {
    write_id(out, status.limit.policy_id().as_str());
    write_integer(out, b";r=", status.remaining);
    if let Some(wait_s) = wait_s {
        write_integer(out, b";t=", wait_s);
    }
}

/// Appends the id as a string, after a separator if it is not the first.
fn write_id(out: &mut Buffer, id: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if !out.is_empty() {
        out.extend_from_slice(b", ");
    }
    out.push(b'"');
    if id.bytes().all(is_plain) {
        out.extend_from_slice(id.as_bytes());
    } else {
        for byte in id.bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                _ if is_plain(byte) => out.push(byte),
                _ => out.extend_from_slice(&[
                    b'%',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 0xf)],
                ]),
            }
        }
    }
    out.push(b'"');
}

/// Whether a byte needs no encoding in a quoted id.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'%')
}

fn write_integer(out: &mut Buffer, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(value.min(MAX_INTEGER)).as_bytes());
}
