//! Names of attributes, in `per` and `match`.

use tollgate_core::Attribute;
use tollgate_core::subject::{ACCEPTED_IDS, check_id};

/// What [`parse`] accepts.
pub(super) fn accepted() -> String {
    format!(
        "{}, or the name of a custom attribute ({ACCEPTED_IDS}) that does not resemble one of these",
        Attribute::BUILT_IN_NAMES.join(", ")
    )
}

/// The attribute called `name`, or the problem of the name.
///
/// A name that differs from a built-in one only in case, separators or a final `Id` is refused: as a custom attribute
/// it would match nothing, and the policy would silently not protect.
pub(super) fn parse(name: &str) -> Result<Attribute, String> {
    check_id(name).map_err(|problem| problem.to_string())?;
    if let Some(like) = Attribute::resembled_by(name) {
        return Err(format!("resembles the built-in attribute `{like}`, but is not the same"));
    }
    Attribute::parse(name).ok_or_else(|| "is not an attribute".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_names_are_those_of_the_core_and_look_alikes_are_refused() {
        for name in Attribute::BUILT_IN_NAMES {
            let attribute = parse(name).unwrap();
            assert!(!matches!(attribute, Attribute::Custom(_)), "{name}");
        }
        for name in
            ["User", "userId", "user_id", "api_key", "apikey", "model-tier", "IP", "modelID"]
        {
            let problem = parse(name).unwrap_err();
            assert!(problem.starts_with("resembles the built-in attribute `"), "{name}: {problem}");
        }
        for name in ["region", "users", "valid", "id", "größe", "x-tier"] {
            assert!(matches!(parse(name), Ok(Attribute::Custom(_))), "{name}");
        }
        assert_eq!(parse(""), Err("is empty".to_owned()));
        assert_eq!(parse("a\u{0}"), Err("has the control character U+0000".to_owned()));
    }
}
