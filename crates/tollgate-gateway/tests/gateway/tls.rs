//! Upstreams behind TLS: whom the gateway trusts, and HTTP/2 where TLS negotiates it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tollgate_gateway::monitor::{UpstreamResult, UpstreamState};

use crate::support::{CHAT, Fixture, STREAM, Setup};

/// TLS before a mock model, with a certificate for `localhost` of a private authority.
struct TlsFront {
    address: SocketAddr,
    /// Where it forwards to.
    target: Arc<OnceLock<SocketAddr>>,
    seen: Arc<Seen>,
    files: TempDir,
    _serving: JoinSet<()>,
}

/// The connections, by what TLS negotiated.
#[derive(Default)]
struct Seen {
    http2: AtomicU64,
    others: AtomicU64,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(authority: &Authority, protocols: &[&str]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, authority).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

impl TlsFront {
    /// One that offers these protocols (ALPN).
    async fn start(protocols: &[&str]) -> Self {
        let (files, ours) = (TempDir::new().unwrap(), authority("ours"));
        for (name, text) in [("ours.pem", ours.pem()), ("other.pem", authority("other").pem())] {
            std::fs::write(files.path().join(name), text).unwrap();
        }
        let acceptor = acceptor(&ours, protocols);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, seen) = (Arc::new(OnceLock::new()), Arc::new(Seen::default()));
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, acceptor, Arc::clone(&target), Arc::clone(&seen)));
        Self { address, target, seen, files, _serving: serving }
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    /// A gateway that reaches its upstream at `host` and trusts the authority in the file `name`.
    async fn gateway(&self, host: &str, name: Option<&str>) -> Fixture {
        let base_url = format!("https://{host}:{}/v1", self.address.port());
        let trust = name.map(|name| format!(", caFile: '{}'", self.file(name)));
        let upstream = trust.unwrap_or_default();
        let base_url = Some(base_url.as_str());
        let fixture = Setup { upstream: &upstream, base_url, ..Setup::default() }.start().await;
        self.target.set(fixture.model().address()).unwrap();
        fixture
    }

    fn connections(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (read(&self.seen.http2), read(&self.seen.others))
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    target: Arc<OnceLock<SocketAddr>>,
    seen: Arc<Seen>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, target) = (acceptor.clone(), Arc::clone(&target));
        let seen = Arc::clone(&seen);
        connections.spawn(async move {
            // It fails if the gateway does not trust the certificate.
            let Ok(mut outside) = acceptor.accept(stream).await else { return };
            let is_http2 = outside.get_ref().1.alpn_protocol() == Some(b"h2");
            let count = if is_http2 { &seen.http2 } else { &seen.others };
            count.fetch_add(1, Ordering::SeqCst);
            let mut inside = TcpStream::connect(target.get().unwrap()).await.unwrap();
            _ = copy_bidirectional(&mut outside, &mut inside).await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_an_upstream_with_http2_share_one_connection() {
    let front = TlsFront::start(&["h2", "http/1.1"]).await;
    let fixture = front.gateway("localhost", Some("ours.pem")).await;
    // The first request finds out that the upstream speaks HTTP/2.
    assert_eq!(fixture.post(CHAT, STREAM).await.status, 200);
    let slow = [("x-mock", "tokens=50, pace-ms=1")];
    let answers = (0..10).map(|_| fixture.post_with(CHAT, STREAM, &slow));
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!((answer.status, answer.is_whole), (200, true));
        assert_eq!(answer.body.matches("word").count(), 50);
        assert!(answer.body.ends_with("data: [DONE]\n\n"));
    }
    let message = r#"{"model":"gpt","max_tokens":5,"messages":[]}"#;
    assert_eq!(fixture.post("/v1/messages", message).await.status, 200);
    assert_eq!(front.connections(), (1, 0));
    assert_eq!(fixture.used("output").await, 20 + 10 * 50 + 5);
    assert_eq!(fixture.used("slots").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_stream_and_not_the_connection_of_the_others() {
    let front = TlsFront::start(&["h2"]).await;
    let fixture = front.gateway("localhost", Some("ours.pem")).await;
    fixture.post(CHAT, STREAM).await;
    let left = fixture.begin(CHAT, STREAM, &[("x-mock", "tokens=4000, pace-ms=1")]).await;
    let stays = fixture.post_with(CHAT, STREAM, &[("x-mock", "tokens=200, pace-ms=1")]);
    drop(left);
    assert!(stays.await.is_whole);
    crate::support::until("the upstream stops", || fixture.model().record().aborted() == 1).await;
    assert_eq!(front.connections(), (1, 0));
    assert_eq!(fixture.used("slots").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_http2_is_reached_by_http1_over_tls() {
    for protocols in [&["http/1.1"][..], &[]] {
        let front = TlsFront::start(protocols).await;
        let fixture = front.gateway("localhost", Some("ours.pem")).await;
        let answer = fixture.post(CHAT, STREAM).await;
        assert_eq!((answer.status, answer.is_whole), (200, true));
        assert_eq!(front.connections(), (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_whose_certificate_is_not_trusted_gets_nothing() {
    // Another authority, those of the system, and a name that is not in the certificate.
    let cases =
        [("localhost", Some("other.pem")), ("localhost", None), ("127.0.0.1", Some("ours.pem"))];
    for (host, trusted) in cases {
        let front = TlsFront::start(&["h2", "http/1.1"]).await;
        let fixture = front.gateway(host, trusted).await;
        let answer = fixture.post(CHAT, STREAM).await;
        assert_eq!((answer.status, answer.field("x-should-retry")), (503, "true"), "{host}");
        assert_eq!(answer.json()["error"]["code"], "service_unavailable");
        let message = r#"{"model":"gpt","max_tokens":5,"messages":[]}"#;
        let answer = fixture.post("/v1/messages", message).await;
        assert_eq!(answer.json()["error"]["type"], "overloaded_error");
        let monitor = fixture.gateway.monitor();
        assert_eq!(monitor.models_without_upstream(), ["gpt"]);
        for upstream in monitor.upstreams() {
            let counted = UpstreamResult::ALL.into_iter().zip(upstream.results);
            let counted: Vec<_> = counted.filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(UpstreamResult::Tls, 1)], "{host}");
            assert!(matches!(upstream.state, UpstreamState::Open | UpstreamState::HalfOpen));
        }
        assert_eq!(fixture.model().record().requests(), 0, "not even a key was sent");
        assert_eq!(front.connections(), (0, 0));
        for policy in ["tokens", "requests", "slots"] {
            assert_eq!(fixture.used(policy).await, 0, "{policy}");
        }
    }
}

/// One that does not speak TLS at all.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_tls_is_not_reached_by_https() {
    let front = TlsFront::start(&[]).await;
    let trust = format!(", caFile: '{}'", front.file("ours.pem"));
    let model = Setup::default().start().await;
    let base_url = format!("https://{}/v1", model.model().address());
    let setup = Setup { upstream: &trust, base_url: Some(&base_url), ..Setup::default() };
    let fixture = setup.start().await;
    assert_eq!(fixture.post(CHAT, STREAM).await.status, 503);
    let upstream = fixture.gateway.monitor().upstreams().next().unwrap();
    assert_eq!(upstream.results[UpstreamResult::Tls as usize], 1);
    assert_eq!(model.model().record().requests(), 0);
}

#[test]
fn a_file_that_is_no_authority_is_reported_with_its_place() {
    use tollgate_catalog::Format;
    use tollgate_gateway::config::GatewayConfig;

    let files = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let empty = write("empty.pem", "");
    let broken =
        write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let missing = Path::new(files.path()).join("missing.pem").display().to_string();
    let ours = write("ours.pem", &authority("ours").pem());
    let cases = [
        ("https", &empty, "contains no certificate in PEM"),
        ("https", &broken, "cannot be used"),
        ("https", &missing, "cannot be read"),
        ("http", &ours, "has no effect without TLS"),
    ];
    for (scheme, path, problem) in cases {
        let yaml = format!(
            "listen: 127.0.0.1:0\nupstreams:\n  - {{id: a, baseUrl: '{scheme}://h/v1', dialect: openai, caFile: '{path}'}}\n\
             models: [{{id: m, upstreams: [a]}}]"
        );
        let refused = GatewayConfig::parse("gateway.yaml", &yaml, Format::Yaml, |_| None);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("gateway.yaml:3:") && refused.contains(problem), "{refused}");
        assert!(refused.contains("upstreams[0].caFile"), "{refused}");
    }
}
