//! Finds one member of a JSON object while the object passes in pieces, without keeping the rest.

/// The longest value that is kept.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// Finds the member `name` of the outermost object. If it is given twice, the last one is found.
#[derive(Debug)]
pub(super) struct MemberFinder {
    name: &'static [u8],
    depth: u32,
    place: Place,
    /// Whether the next string at the first level is a name.
    at_name: bool,
    /// The current name, as far as it may be the one.
    current: Vec<u8>,
    is_current_whole: bool,
    /// The value while it passes.
    passing: Option<Vec<u8>>,
    found: Option<Vec<u8>>,
}

/// Where a scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between strings.
    Outside,
    /// In a string.
    String,
    /// In a string, after a backslash.
    Escape,
}

impl MemberFinder {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name: name.as_bytes(),
            depth: 0,
            place: Place::Outside,
            at_name: false,
            current: Vec::new(),
            is_current_whole: false,
            passing: None,
            found: None,
        }
    }

    /// The value, as JSON, if it has passed.
    pub(super) fn found(&self) -> Option<&[u8]> {
        self.found.as_deref()
    }

    /// Scans the next piece. O(its length).
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut at = 0;
        while at < piece.len() {
            if self.place == Place::Outside {
                self.structure(piece[at]);
                at += 1;
            } else {
                at = self.string(piece, at);
            }
        }
    }

    /// Scans a string from `at`; returns where the scan goes on.
    fn string(&mut self, piece: &[u8], at: usize) -> usize {
        if self.place == Place::Escape {
            self.place = Place::String;
            self.keep(&piece[at..=at]);
            return at + 1;
        }
        let rest = &piece[at..];
        let Some(found) = memchr::memchr2(b'"', b'\\', rest) else {
            self.keep(rest);
            return piece.len();
        };
        self.keep(&rest[..=found]);
        if rest[found] == b'\\' {
            self.place = Place::Escape;
        } else {
            self.place = Place::Outside;
            if self.depth == 1 && self.at_name {
                self.is_current_whole = true;
            }
        }
        at + found + 1
    }

    /// Keeps bytes of a string: of a value that is looked for, or of a name.
    fn keep(&mut self, bytes: &[u8]) {
        if self.passing.is_some() {
            self.pass(bytes);
        } else if self.depth == 1 && self.at_name {
            // One byte more than the name has, for its quote, shows that another name is longer.
            let room = (self.name.len() + 2).saturating_sub(self.current.len());
            self.current.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn structure(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.place = Place::String;
                if self.depth == 1 && self.at_name {
                    self.current.clear();
                    self.is_current_whole = false;
                }
            }
            b'{' | b'[' => {
                self.depth = self.depth.saturating_add(1);
                if self.depth == 1 {
                    self.at_name = byte == b'{';
                    return;
                }
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.end_of_value();
                    return;
                }
            }
            b',' if self.depth == 1 => {
                self.end_of_value();
                self.at_name = true;
                return;
            }
            b':' if self.depth == 1 && self.at_name => {
                self.at_name = false;
                let is_it = self.is_current_whole
                    && self.current.strip_suffix(b"\"").is_some_and(|name| name == self.name);
                self.passing = is_it.then(Vec::new);
                return;
            }
            _ => {}
        }
        self.pass(&[byte]);
    }

    fn pass(&mut self, bytes: &[u8]) {
        let Some(value) = &mut self.passing else { return };
        if value.len() + bytes.len() > MAX_VALUE_BYTES {
            self.passing = None;
        } else {
            value.extend_from_slice(bytes);
        }
    }

    fn end_of_value(&mut self) {
        if let Some(value) = self.passing.take() {
            self.found = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn found(text: &str, piece: usize) -> Option<Value> {
        let mut finder = MemberFinder::new("usage");
        for piece in text.as_bytes().chunks(piece) {
            finder.push(piece);
        }
        finder.found().map(|json| serde_json::from_slice(json).unwrap())
    }

    #[test]
    fn only_the_member_of_the_outermost_object_is_found() {
        let cases = [
            (r#"{"usage":{"a":1}}"#, Some(json!({"a": 1}))),
            (
                r#" { "x" : "usage", "usage" : { "a" : [ "}", "\"]" ] } , "y" : 2 } "#,
                Some(json!({"a": ["}", "\"]"]})),
            ),
            (r#"{"x":{"usage":1}}"#, None),
            (r#"{"x":"\"usage\":7","usages":3,"usag":4}"#, None),
            (r#"{"usage":null,"usage":5}"#, Some(json!(5))),
            (r#"[{"usage":1}]"#, None),
            (r#"{"usage":{"a":1}"#, None),
            ("", None),
        ];
        for (text, expected) in cases {
            for piece in [1, 2, 3, 1_000] {
                assert_eq!(found(text, piece), expected, "{text} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_not_kept() {
        let long = format!(r#"{{"usage":"{}","b":1}}"#, "x".repeat(MAX_VALUE_BYTES));
        assert_eq!(found(&long, 1_000), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\]:,]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let name = prop_oneof![Just("usage".to_owned()), "[a-z\"\\\\]{0,5}"];
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(name, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_parser(value in value(), piece in 1..9_usize, pretty: bool) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let expected = value.as_object().and_then(|object| object.get("usage")).cloned();
            prop_assert_eq!(found(&text, piece), expected);
        }
    }
}
