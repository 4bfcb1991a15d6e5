//! The names of other programs as attributes of a check, and their values as conditions.

/// The built-in attributes of a check.
const BUILT_IN: [&str; 8] =
    ["tenant", "user", "apiKey", "model", "modelTier", "service", "ip", "tier"];

/// Other names of the address.
const ADDRESSES: [&str; 2] = ["remote_address", "masked_remote_address"];

/// The attribute that `name` stands for: a built-in one if it is called alike (`user_id`, `api_key`), or a custom one.
pub(crate) fn attribute(name: &str) -> &str {
    if ADDRESSES.contains(&name) {
        return "ip";
    }
    let core = |name: &str| {
        let plain = name.to_lowercase().replace(['_', '-', ' ', '.'], "");
        plain.strip_suffix("id").map(str::to_owned).unwrap_or(plain)
    };
    BUILT_IN.into_iter().find(|known| core(known) == core(name)).unwrap_or(name)
}

/// `value` as a condition that only this value fulfils.
pub(crate) fn exactly(value: &str) -> String {
    value.replace('\\', "\\\\").replace('*', "\\*")
}

/// The condition that every value that begins with `prefix` fulfils.
pub(crate) fn beginning(prefix: &str) -> String {
    exactly(prefix) + "*"
}

/// Whether the condition `text` is one of [`beginning`].
pub(crate) fn is_beginning(text: &str) -> bool {
    let escapes = |before: &str| before.len() - before.trim_end_matches('\\').len();
    text.strip_suffix('*').is_some_and(|before| escapes(before) % 2 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_like_a_built_in_attribute_stand_for_it() {
        let cases = [
            ("user", "user"),
            ("user_id", "user"),
            ("api_key", "apiKey"),
            ("remote_address", "ip"),
            ("model", "model"),
            ("source_cluster", "source_cluster"),
            ("req.method", "req.method"),
        ];
        for (name, expected) in cases {
            assert_eq!(attribute(name), expected);
        }
        for text in ["a", "a*", "a\\", "a\\*", "*"] {
            assert!(is_beginning(&beginning(text)) && !is_beginning(&exactly(text)), "{text}");
        }
        assert_eq!((exactly("a*\\b"), beginning("a")), ("a\\*\\\\b".to_owned(), "a*".to_owned()));
    }
}
