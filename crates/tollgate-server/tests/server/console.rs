//! The console's files: what a browser gets, and its content security policy.

use crate::support::{Fixture, HttpAnswer};

async fn get(fixture: &Fixture, path: &str, encoding: &str) -> HttpAnswer {
    fixture.client().await.send("GET", path, &[("accept-encoding", encoding)], "").await
}

/// The URLs that a page loads from here.
fn loaded(html: &str) -> Vec<&str> {
    let attributes = ["src=\"./", "href=\"./"];
    let after = attributes.iter().flat_map(|attribute| html.split(attribute).skip(1));
    after.filter_map(|rest| rest.split('"').next()).collect()
}

/// P15: the page may load what this server serves, and nothing inline. Every file that it names exists, under a
/// relative URL, and may be cached indefinitely if its name depends on its content.
#[tokio::test]
async fn the_page_and_its_files_are_served() {
    let fixture = Fixture::start().await;
    let page = get(&fixture, "/", "identity").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
    assert!(page.body.contains("<title>Tollgate</title>"));
    for path in loaded(&page.body) {
        let file = get(&fixture, &format!("/{path}"), "identity").await;
        assert_eq!(
            (file.status, file.header("x-content-type-options")),
            (200, Some("nosniff")),
            "{path}"
        );
        let cached = file.header("cache-control").unwrap();
        assert_eq!(cached.contains("immutable"), path.starts_with("assets/"), "{path}: {cached}");
    }
    assert_eq!(get(&fixture, "/assets/no-such-file.js", "gzip").await.status, 404);
}
