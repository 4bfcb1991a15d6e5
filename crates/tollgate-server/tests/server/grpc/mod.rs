//! gRPC on a port of its own: Envoy's rate limit service, Tollgate's own calls, health and reflection.

pub(crate) mod client;
mod envoy;
mod health;
mod misuse;
mod v1;

use tollgate_server::ServeConfig;

use crate::support::Fixture;

/// A server with the policies of this YAML that also serves gRPC.
async fn start(yaml: &str) -> Fixture {
    start_and(yaml, |_| {}).await
}

async fn start_and(yaml: &str, configure: impl FnOnce(&mut ServeConfig)) -> Fixture {
    Fixture::start_with_policies_and(yaml, |config| {
        config.grpc = Some(([127, 0, 0, 1], 0).into());
        configure(config);
    })
    .await
}
