//! Health and reflection.

use tokio_stream::StreamExt as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::client::{Channel, address, origin};
use super::start;

const POLICIES: &str = "policies: [{id: user, scope: USER, limit: 1, windowSeconds: 60}]";

const SERVICES: [&str; 2] =
    ["envoy.service.ratelimit.v3.RateLimitService", "tollgate.v1.RateLimiter"];

#[tokio::test]
async fn health_is_serving_until_the_server_drains() {
    let fixture = start(POLICIES).await;
    let channel = Channel::connect(address(&fixture)).await;
    let mut client = HealthClient::with_origin(channel, origin());
    for service in ["", SERVICES[0], SERVICES[1]] {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await;
        assert_eq!(answer.unwrap().into_inner().status(), ServingStatus::Serving, "{service}");
    }
    let unknown = client.check(HealthCheckRequest { service: "other".to_owned() }).await;
    assert_eq!(unknown.unwrap_err().code(), tonic::Code::NotFound);
    let watch = client.watch(HealthCheckRequest { service: SERVICES[0].to_owned() }).await;
    let mut watch = watch.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let drained = tokio::spawn(fixture.server.drain());
    let next = watch.next().await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
    drop((watch, client));
    assert!(drained.await.unwrap(), "everything in flight was answered");
}

#[tokio::test]
async fn reflection_lists_the_services_and_their_files() {
    let fixture = start(POLICIES).await;
    let channel = Channel::connect(address(&fixture)).await;
    let mut client = ServerReflectionClient::with_origin(channel, origin());
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let mut requests = vec![ask(MessageRequest::ListServices(String::new()))];
    requests.extend(SERVICES.map(|name| ask(MessageRequest::FileContainingSymbol(name.into()))));
    let answers = client.server_reflection_info(tokio_stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut next = async || answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = next().await else { panic!("no list") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for service in SERVICES.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(names.iter().any(|name| name == service), "{service} is not in {names:?}");
    }
    for service in SERVICES {
        let answer = next().await;
        assert!(
            matches!(answer, MessageResponse::FileDescriptorResponse(_)),
            "{service}: {answer:?}"
        );
    }
}
