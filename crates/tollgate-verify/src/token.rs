//! The admin token of a run.

use std::ffi::OsString;

use crate::error::VerifyError;

/// The variable that holds the token, as for `serve`.
pub const TOKEN_VARIABLE: &str = "TOLLGATE_ADMIN_TOKEN";

/// The token in `value`, the value of [`TOKEN_VARIABLE`], without the line ends that a file leaves behind it; or why it
/// cannot be sent in a header.
pub fn admin_token(value: OsString) -> Result<String, VerifyError> {
    let refused = |problem| Err(VerifyError::Token { problem });
    let Ok(mut text) = value.into_string() else { return refused("is not UTF-8") };
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    match &*text {
        "" => refused("is empty"),
        token if token.chars().any(char::is_control) => {
            refused("has a line end or another control character inside")
        }
        token if token.trim() != token => refused("begins or ends with a space"),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each message names the variable, and none shows the token.
    #[test]
    fn a_token_that_cannot_be_sent_is_refused() {
        for (value, problem) in [
            ("", "is empty"),
            ("\n", "is empty"),
            ("secret\nsecret", "has a line end"),
            ("secret ", "begins or ends with a space"),
        ] {
            let error = admin_token(value.into()).unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with(&format!("TOLLGATE_ADMIN_TOKEN: {problem}")), "{text}");
            assert!(text.contains("accepted") && !text.contains("secret"), "{text}");
            assert_eq!(error.exit_code(), 2);
        }
        assert_eq!(admin_token("a-token-of-a-file\r\n".into()).unwrap(), "a-token-of-a-file");
    }
}
