//! `If-Match` (RFC 9110, 13.1.1): the versions of a record that a change applies to.

use axum::http::{HeaderMap, HeaderValue, header};
use tollgate_catalog::directory::{Directory, DirectoryError, Id, Kind, Version};

use super::super::problem::Problem;
use super::bodies::failed;

/// The versions that a change applies to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// Any.
    Any,
    /// Only these. Weak tags, and tags that are not of records, match no version: the comparison is strong.
    OneOf(Vec<Version>),
}

impl IfMatch {
    /// Parses `headers`; any version if the header is absent.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let lines: Vec<_> =
            headers.get_all(header::IF_MATCH).iter().map(HeaderValue::as_bytes).collect();
        match &lines[..] {
            [] => Ok(Self::Any),
            [line] if line.trim_ascii() == b"*" => Ok(Self::Any),
            lines => {
                // Several lines are one list.
                let versions = tags(&lines.join(&b','));
                versions.map(Self::OneOf).ok_or_else(Problem::malformed_if_match)
            }
        }
    }

    /// The version that the directory is to expect. It accepts only one, so if several are given, the current version
    /// of the record must be among them. If the record changes before the change is made, the change is refused.
    pub(super) async fn expected(
        self,
        directory: &impl Directory,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Version>, Problem> {
        let versions = match self {
            Self::Any => return Ok(None),
            Self::OneOf(versions) => versions,
        };
        if let [one] = versions[..] {
            return Ok(Some(one));
        }
        if !directory.is_writable() {
            // The change is refused, whatever the version.
            return Ok(None);
        }
        let current = directory.get(kind, id).await.map_err(|error| failed(&error))?.version;
        if versions.contains(&current) {
            return Ok(Some(current));
        }
        let id = Id::new(id).map_err(|_| Problem::not_found())?;
        Err(failed(&DirectoryError::Stale { kind, id, current }))
    }
}

/// The versions in a list of tags; `None` if it is malformed or empty.
fn tags(list: &[u8]) -> Option<Vec<Version>> {
    let mut versions = Vec::new();
    let mut rest = list.trim_ascii();
    let mut has_tag = false;
    while !rest.is_empty() {
        // Elements of a list may be empty.
        if let Some(behind) = rest.strip_prefix(b",") {
            rest = behind.trim_ascii_start();
            continue;
        }
        let weak = rest.strip_prefix(b"W/");
        let opaque = weak.unwrap_or(rest).strip_prefix(b"\"")?;
        let end = opaque.iter().position(|byte| *byte == b'"')?;
        let (tag, behind) = opaque.split_at_checked(end)?;
        if !tag.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)) {
            return None;
        }
        versions.extend(version(tag).filter(|_| weak.is_none()));
        has_tag = true;
        rest = behind.strip_prefix(b"\"")?.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
    has_tag.then_some(versions)
}

/// The version with exactly this tag.
fn version(tag: &[u8]) -> Option<Version> {
    let text = std::str::from_utf8(tag).ok()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(Version(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: Option<&[u64]>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::IF_MATCH, HeaderValue::from_str(line).unwrap());
        }
        let read = IfMatch::of(&headers).ok();
        let versions =
            |numbers: &[u64]| IfMatch::OneOf(numbers.iter().map(|n| Version(*n)).collect());
        assert_eq!(read, expected.map(versions), "{lines:?}");
    }

    #[test]
    fn any_version_is_meant_without_the_header_or_by_an_asterisk() {
        assert_eq!(IfMatch::of(&HeaderMap::new()).unwrap(), IfMatch::Any);
        let headers = HeaderMap::from_iter([(header::IF_MATCH, HeaderValue::from_static(" * "))]);
        assert_eq!(IfMatch::of(&headers).unwrap(), IfMatch::Any);
    }

    /// RFC 9110, 8.8.3 and 5.6.1: lists, also over several lines and with empty elements; a weak tag matches nothing.
    #[test]
    fn tags_are_read_as_the_standard_writes_them() {
        check(&[r#""7""#], Some(&[7]));
        check(&[r#""1", "2""#], Some(&[1, 2]));
        check(&[r#"  "1" ,, "2","#], Some(&[1, 2]));
        check(&[r#""1""#, r#""2""#], Some(&[1, 2]));
        check(&[r#"W/"1""#], Some(&[]));
        check(&[r#"W/"1", "2""#], Some(&[2]));
        check(&[r#""abc", "07", "+7", "1,2", """#], Some(&[]));
        check(&[r#""99999999999999999999""#], Some(&[]));
        for malformed in
            ["", " ", ",", "7", r#""7"#, r#"7""#, r#"w/"7""#, r#""1" "2""#, r#""a b""#, r#"*, "1""#]
        {
            check(&[malformed], None);
        }
        check(&["*", "*"], None);
    }
}
