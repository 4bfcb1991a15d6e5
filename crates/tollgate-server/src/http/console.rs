//! Serves the console: the files of `console/dist`, as they were when this binary was built.
//!
//! If the console was not built before the binary, `/` says so.

use std::borrow::Cow;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

use super::problem::Problem;

#[derive(RustEmbed)]
#[folder = "../../console/dist"]
#[exclude = ".vite/*"]
#[allow_missing = true]
struct Files;

const INDEX: &str = "index.html";
/// The folder of files whose names change with their content.
const HASHED: &str = "assets/";
/// The extension of the compressed copy that the build writes beside a file.
const GZIPPED: &str = ".gz";

/// The page may only load what this server serves and images inlined in it; no inline scripts, no inline styles.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     form-action 'self'; frame-ancestors 'none'",
);
const NO_SNIFF: (HeaderName, HeaderValue) =
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const NOT_BUILT: &str = "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Tollgate</title>\n\
     <p>This binary was built without its console: run <code>make console</code>, which needs Node.js, and build again.\n\
     <p>The calls are described at <a href=\"docs\">docs</a>.\n</html>\n";

/// The console's paths.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let names = Files::iter().filter(|name| name != INDEX && !name.ends_with(GZIPPED));
    let index = Router::new().route("/", get(async |headers: HeaderMap| index(&headers)));
    names.fold(index, |router, name| {
        router
            .route(&format!("/{name}"), get(async move |headers: HeaderMap| file(&name, &headers)))
    })
}

fn index(headers: &HeaderMap) -> Response {
    if Files::get(INDEX).is_none() {
        let headers =
            [(header::CONTENT_TYPE, HTML), (header::CONTENT_SECURITY_POLICY, POLICY), NO_SNIFF];
        return (headers, NOT_BUILT).into_response();
    }
    let mut response = file(INDEX, headers);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// The file called `name`; its compressed copy if there is one and the client accepts it.
fn file(name: &str, headers: &HeaderMap) -> Response {
    let gzipped = accepts_gzip(headers).then(|| Files::get(&format!("{name}{GZIPPED}"))).flatten();
    let is_gzipped = gzipped.is_some();
    let Some(EmbeddedFile { data, .. }) = gzipped.or_else(|| Files::get(name)) else {
        return Problem::not_found().into_response();
    };
    let body = match data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let cached =
        if name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = body.into_response();
    let answered = response.headers_mut();
    answered.insert(header::CONTENT_TYPE, content_type(name));
    answered.insert(header::CACHE_CONTROL, HeaderValue::from_static(cached));
    answered.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    answered.extend([NO_SNIFF]);
    if is_gzipped {
        answered.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn content_type(name: &str) -> HeaderValue {
    let guessed = mime_guess::from_path(name).first_or_octet_stream();
    let is_text = matches!(guessed.type_(), mime_guess::mime::TEXT);
    let charset = if is_text { "; charset=utf-8" } else { "" };
    HeaderValue::try_from(format!("{guessed}{charset}"))
        .unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Whether the client accepts gzip and does not prefer an uncompressed answer.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|codings| {
        codings.split(',').any(|coding| {
            let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
            let quality = quality.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
            name.trim().eq_ignore_ascii_case("gzip") && quality.is_ok_and(|quality| quality > 0.0)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_who_takes_it() {
        let cases = [
            ("gzip", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("deflate, gzip, br, zstd", true),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("br", false),
            ("", false),
        ];
        for (accepted, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            assert_eq!(accepts_gzip(&headers), expected, "{accepted:?}");
        }
    }

    #[test]
    fn types_are_told_by_name() {
        for (name, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("assets/a.js", "text/javascript; charset=utf-8"),
            ("assets/a.css", "text/css; charset=utf-8"),
            ("icon.svg", "image/svg+xml"),
        ] {
            assert_eq!(content_type(name), expected, "{name}");
        }
    }
}
