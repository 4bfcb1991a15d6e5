//! The bare server of `tollgate-bench http`: parses the body of a check and answers with the JSON that is its
//! only argument. Prints where it listens.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use std::process::ExitCode;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::TcpListener;

/// The fields of a check that the load generator sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Check {
    user_id: String,
    model_id: String,
}

fn main() -> ExitCode {
    let Some(answer) = std::env::args().nth(1) else {
        eprintln!("usage: tollgate-bench-bare JSON");
        return ExitCode::from(2);
    };
    match serve(answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// With the runtime that `tollgate serve` has.
#[tokio::main]
async fn serve(answer: String) -> std::io::Result<()> {
    let router =
        Router::new().route("/rate-limit/check", post(check)).with_state(Bytes::from(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, router).await
}

async fn check(State(answer): State<Bytes>, Json(check): Json<Check>) -> impl IntoResponse {
    std::hint::black_box((check.user_id, check.model_id));
    ([(CONTENT_TYPE, "application/json")], answer)
}
