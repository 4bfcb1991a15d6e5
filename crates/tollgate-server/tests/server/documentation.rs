//! The API's documentation is complete, valid and served without the network.

use serde_json::Value;

use crate::support::{Fixture, document, matches_schema};

#[test]
fn the_document_is_valid_openapi_3_1() {
    let schema = include_str!("../data/openapi-3.1-schema.json");
    let schema: Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(document())
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    assert!(document()["openapi"].as_str().unwrap().starts_with("3.1."));
}

#[test]
fn every_operation_documents_its_errors_and_its_references_resolve() {
    let paths = document()["paths"].as_object().unwrap();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            for field in ["summary", "operationId", "tags"] {
                assert!(!operation[field].is_null(), "{method} {path} has no {field}");
            }
            if method == "post" {
                for status in ["200", "400", "408", "413", "415", "422", "500", "503"] {
                    let response = &operation["responses"][status];
                    assert!(!response.is_null(), "{method} {path} does not document {status}");
                }
            }
        }
    }
    let text = document().to_string();
    for reference in text.split(r##""$ref":"#"##).skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document().pointer(pointer).is_some(), "{pointer} is not there");
    }
}

#[test]
fn every_example_is_what_its_schema_says() {
    let mut checked = 0;
    let schemas = document()["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert!(matches_schema(name, example), "{name}: {example}");
            checked += 1;
        }
    }
    for operation in document()["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|p| p.as_object().unwrap().values())
    {
        for response in operation["responses"].as_object().unwrap().values() {
            for content in response["content"].as_object().into_iter().flat_map(|c| c.values()) {
                let Some(reference) = content["schema"]["$ref"].as_str() else { continue };
                let name = reference.rsplit('/').next().unwrap();
                let named = content["examples"].as_object().into_iter().flatten();
                let examples = named.map(|(_, example)| &example["value"]);
                for example in examples.chain(content.get("example")) {
                    assert!(matches_schema(name, example), "{name}: {example}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 10, "only {checked} examples");
}

#[tokio::test]
async fn every_documented_path_is_served_and_the_document_is_the_servers() {
    let fixture = Fixture::start().await;
    let served = fixture.get("/openapi.json").await;
    assert_eq!((served.status, served.header("content-type")), (200, Some("application/json")));
    assert_eq!(&served.json(), document());
    for (path, operations) in document()["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let body = "{}";
            let answer = fixture.client().await.send(&method.to_uppercase(), path, &[], body).await;
            assert!(![404, 405].contains(&answer.status), "{method} {path}: {}", answer.status);
        }
    }
}

#[tokio::test]
async fn the_pages_and_all_that_they_load_come_from_the_server() {
    let fixture = Fixture::start().await;
    for page in ["/docs", "/redoc"] {
        let answer = fixture.get(page).await;
        assert_eq!(answer.status, 200);
        assert!(answer.header("content-type").unwrap().starts_with("text/html"));
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        let loaded: Vec<&str> = ["src=\"", "href=\"", "spec-url=\""]
            .iter()
            .flat_map(|attribute| answer.body.split(attribute).skip(1))
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(loaded.len() >= 2, "{page} loads {loaded:?}");
        for url in loaded {
            assert!(!url.contains("//") && !url.starts_with('/'), "{page} loads {url}");
            let asset = fixture.get(&format!("/{url}")).await;
            assert_eq!(asset.status, 200, "{url}");
            assert!(asset.body.len() > 100, "{url}");
        }
    }
}

#[tokio::test]
async fn the_root_leads_to_the_documentation() {
    let fixture = Fixture::start().await;
    let answer = fixture.get("/").await;
    assert_eq!((answer.status, answer.header("location")), (307, Some("docs")));
    for (path, location) in [("/docs/", "../docs"), ("/redoc/", "../redoc")] {
        let answer = fixture.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)));
    }
}

#[tokio::test]
async fn what_can_be_got_can_be_asked_for_without_its_body() {
    let fixture = Fixture::start().await;
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/redoc"] {
        let answer = fixture.client().await.send("HEAD", path, &[], "").await;
        assert_eq!((answer.status, &*answer.body), (200, ""), "{path}");
    }
}
