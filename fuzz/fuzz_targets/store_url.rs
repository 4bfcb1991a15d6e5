//! Store URLs: any text gives either a URL or its problem, and no message shows a part of the password.
//!
//! The text is parsed directly. In addition, its lines are put around a secret: the scheme, the part of the login before the
//! secret, the part after it, and the rest. No message may show the secret.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_redis::RedisUrl;

const SECRET: &str = "cAnArY";

fuzz_target!(|text: &str| {
    shown(text);
    if text.contains(SECRET) {
        return;
    }
    let mut lines = text.splitn(4, '\n');
    let [scheme, before, after, rest] = [(); 4].map(|()| lines.next().unwrap_or_default());
    let url = format!("{scheme}://{before}:{SECRET}{after}@{rest}");
    let said = shown(&url);
    assert!(!said.contains(SECRET), "{url}: {said}");
});

/// Everything that is said of `text`.
fn shown(text: &str) -> String {
    match text.parse::<RedisUrl>() {
        Ok(url) => format!("{url} {url:?}"),
        Err(problem) => format!("{problem} {problem:?} {}", problem.problem()),
    }
}
