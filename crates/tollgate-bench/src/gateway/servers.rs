//! The model, the bare proxy and the gateway.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::load::Target;
use super::{DIRECT, GATEWAY, PROXY, Programs};
use crate::cores::{CORE_OF_LOAD, CORE_OF_SERVERS};
use crate::http::server::Server;

const TOKEN: &str = "a token for a benchmark";

/// The limits of the gateway: none denies.
const POLICIES: &str = r#"{
  "tenants": [{"id": "acme"}],
  "policies": [
    {"id": "requests", "per": ["apiKey"], "unit": "requests", "limit": 1000000000, "windowSeconds": 60},
    {"id": "tokens", "per": ["tenant", "model"], "unit": "tokens", "limit": 1000000000000, "windowSeconds": 60},
    {"id": "answers", "per": ["apiKey"], "unit": "output_tokens", "limit": 1000000000000, "windowSeconds": 60},
    {"id": "slots", "per": ["model"], "unit": "concurrency", "limit": 100000}
  ]
}"#;

/// All servers of the benchmark.
pub(super) struct Servers {
    model: Server,
    proxy: Server,
    gateway: Server,
    gateway_address: SocketAddr,
    api_key: String,
}

/// A path to the model.
pub(super) struct Contender<'a> {
    pub(super) name: &'static str,
    /// The server that is measured; `None` for the model itself.
    pub(super) server: Option<&'a Server>,
    pub(super) target: Target<'a>,
}

impl Servers {
    pub(super) fn start(programs: &Programs) -> Result<Self, String> {
        let listen = ["--listen", "127.0.0.1:0"];
        let model = Server::start_on_core(DIRECT, CORE_OF_LOAD, &programs.model, &listen, &[])?;
        let upstream = model.address().to_string();
        let proxy =
            Server::start_on_core(PROXY, CORE_OF_SERVERS, &programs.proxy, &[&upstream], &[])?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = directory.path().join("gateway.yaml");
        std::fs::write(&path, configuration(&upstream)).map_err(|error| error.to_string())?;
        let path = path.to_string_lossy();
        let arguments = ["serve", "--http", "127.0.0.1:0", "--gateway", &path];
        let variables = [("TOLLGATE_ADMIN_TOKEN", TOKEN)];
        let gateway = Server::start_on_core(
            GATEWAY,
            CORE_OF_SERVERS,
            &programs.tollgate,
            &arguments,
            &variables,
        )?;
        let gateway_address = gateway.address_after("gateway=")?;
        administer(gateway.address(), "import", POLICIES)?;
        let made =
            administer(gateway.address(), "api-keys", r#"{"id":"bench","tenantId":"acme"}"#)?;
        let key = made.split_once(r#""key":""#).and_then(|(_, rest)| rest.split('"').next());
        let api_key = key.ok_or_else(|| format!("no API key was made: {made}"))?.to_owned();
        Ok(Self { model, proxy, gateway, gateway_address, api_key })
    }

    /// Where the model listens.
    pub(super) fn model_address(&self) -> SocketAddr {
        self.model.address()
    }

    /// The paths to the model.
    pub(super) fn contenders(&self) -> [Contender<'_>; 3] {
        let api_key = self.api_key.as_str();
        let path = |name, server, address| Contender {
            name,
            server,
            target: Target { address, api_key, fields: "" },
        };
        [
            path(DIRECT, None, self.model.address()),
            path(PROXY, Some(&self.proxy), self.proxy.address()),
            path(GATEWAY, Some(&self.gateway), self.gateway_address),
        ]
    }
}

fn configuration(upstream: &str) -> String {
    format!(
        "listen: 127.0.0.1:0\n\
         upstreams:\n  - {{id: model, baseUrl: \"http://{upstream}/v1\", dialect: openai, maxConcurrency: 10000}}\n\
         models:\n  - {{id: gpt-4, upstreams: [model], upstreamModel: mock, maxOutputTokens: 4096}}\n"
    )
}

/// Sends `body` to a call of administrators; returns the answer.
fn administer(address: SocketAddr, call: &str, body: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    let head = format!(
        "POST /admin/{call} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).map_err(failed)?;
    stream.write_all(body.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    if answer.starts_with("HTTP/1.1 20") { Ok(answer) } else { Err(format!("{call}: {answer}")) }
}
