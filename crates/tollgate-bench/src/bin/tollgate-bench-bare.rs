//! The bare server of `tollgate-bench http`: parses the body of a check and answers with the JSON in its first
//! argument. With the URL of a Redis as its second argument, it first runs the usual sliding-window script there, with
//! 100 an hour for each user and model. Prints its address.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line")]

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use redis::Script;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use tokio::net::TcpListener;

/// The fields of a check that the load generator sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Check {
    user_id: String,
    model_id: String,
}

/// The state of the handler.
#[derive(Clone)]
struct Handler {
    answer: Bytes,
    redis: Option<(MultiplexedConnection, Arc<Script>)>,
    /// Makes the members of the sorted sets unique.
    number: Arc<AtomicU64>,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(answer) = arguments.next() else {
        eprintln!("usage: tollgate-bench-bare JSON [redis://HOST:PORT]");
        return ExitCode::from(2);
    };
    match serve(answer, arguments.next()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// With the same runtime as `tollgate serve`.
#[tokio::main]
async fn serve(answer: String, redis_url: Option<String>) -> Result<(), Box<dyn Error>> {
    let redis = match redis_url {
        Some(url) => {
            let client = redis::Client::open(url)?;
            let connection = client.get_multiplexed_async_connection().await?;
            Some((connection, Arc::new(Script::new(include_str!("../redis/bare.lua")))))
        }
        None => None,
    };
    let handler = Handler { answer: answer.into(), redis, number: Arc::default() };
    let router = Router::new().route("/rate-limit/check", post(check)).with_state(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, router).await?)
}

async fn check(
    State(handler): State<Handler>,
    Json(check): Json<Check>,
) -> Result<impl IntoResponse, StatusCode> {
    if let Some((mut connection, script)) = handler.redis {
        // Relaxed: the number only has to be unique.
        let number = handler.number.fetch_add(1, Ordering::Relaxed);
        let mut call = script.key(format!("{}:{}", check.user_id, check.model_id));
        call.arg(100).arg(3_600_000_000_u64).arg(number);
        let answered: Result<(bool, u64), _> = call.invoke_async(&mut connection).await;
        std::hint::black_box(answered.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?);
    } else {
        std::hint::black_box((check.user_id, check.model_id));
    }
    Ok(([(CONTENT_TYPE, "application/json")], handler.answer))
}
