//! The errors of calls to a program that is not Tollgate, or to an address where no server answers.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// TLS with a certificate of `authority` for `name`.
fn acceptor(authority: &Authority, name: &str) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = names.signed_by(&key, authority).unwrap();
    accepting(certificate.der(), &key)
}

/// TLS with the certificate of the authority itself.
fn acceptor_of_itself(authority: &Authority) -> TlsAcceptor {
    accepting(authority.der(), authority.key())
}

fn accepting(certificate: &CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![certificate.clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A server that sends these bytes once it has got something, and closes the connection.
struct Other {
    port: u16,
    serving: AbortHandle,
}

impl Drop for Other {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Other {
    async fn start(answer: &'static [u8], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if let Some(tls) = &tls {
                    // What fails here fails the call, too.
                    let Ok(mut stream) = tls.accept(stream).await else { continue };
                    _ = stream.read(&mut [0; 4_096]).await;
                    _ = stream.write_all(answer).await;
                    _ = stream.shutdown().await;
                } else {
                    _ = stream.read(&mut [0; 4_096]).await;
                    _ = stream.write_all(answer).await;
                    _ = stream.shutdown().await;
                }
            }
        });
        Self { port, serving: serving.abort_handle() }
    }

    async fn call(&self, client: &HttpClient, scheme: &str) -> Result<HttpAnswer, String> {
        let url = Url::parse(&format!("{scheme}://localhost:{}/", self.port)).unwrap();
        client.call(Method::GET, url, None, String::new()).await
    }
}

fn trusting(authority: Option<&Authority>) -> HttpClient {
    let mut trusted = RootCertStore::empty();
    if let Some(authority) = authority {
        trusted.add(authority.der().clone()).unwrap();
    }
    HttpClient::trusting(trusted).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[tokio::test]
async fn the_wrong_scheme_is_named() {
    let client = trusting(None);
    // The answers of servers with TLS to plain text: an alert, nothing, or a page.
    for (scheme, answer, parts) in [
        ("http", &b"\x15\x03\x01\x00\x02\x02\x46"[..], ["is not HTTP", "https://"]),
        ("http", b"", ["closed without an answer", "https://"]),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", ["does not speak TLS", "http://"]),
        ("https", b"", ["closed without an answer", "http://"]),
    ] {
        let server = Other::start(answer, None).await;
        let error = server.call(&client, scheme).await.err().unwrap();
        for part in parts {
            assert!(error.contains(part), "{scheme}: {part}: {error}");
        }
    }
}

#[tokio::test]
async fn an_address_without_a_server_is_named() {
    let url = Url::parse("http://127.0.0.1:1/").unwrap();
    let answer = trusting(None).call(Method::GET, url, None, String::new()).await;
    let error = answer.err().unwrap();
    assert!(error.starts_with("cannot connect: Connection refused"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_named() {
    let ours = authority();
    let named = Other::start(OK, Some(acceptor(&ours, "localhost"))).await;
    let answer = named.call(&trusting(Some(&ours)), "https").await.unwrap();
    assert_eq!(answer.shown(), r#"status 200 OK with "hi""#);
    // The other authority has the name of ours.
    for client in [trusting(None), trusting(Some(&authority()))] {
        let error = named.call(&client, "https").await.err().unwrap();
        for part in ["authority that is not trusted", "accepted", "SSL_CERT_FILE"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
    let used_by_itself = Other::start(OK, Some(acceptor_of_itself(&ours))).await;
    let error = used_by_itself.call(&trusting(Some(&ours)), "https").await.err().unwrap();
    assert!(error.contains("one of an authority (CA:TRUE)"), "{error}");
    let other = Other::start(OK, Some(acceptor(&ours, "elsewhere.example"))).await;
    let error = other.call(&trusting(Some(&ours)), "https").await.err().unwrap();
    for part in ["another name", "elsewhere.example", "accepted"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

/// An answer is shown with its status, its beginning, and where a redirect leads.
#[tokio::test]
async fn an_answer_of_another_program_is_shown() {
    let client = trusting(None);
    for (answer, shown) in [
        (OK, r#"status 200 OK with "hi""#),
        (
            &b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"[..],
            r#"status 400 Bad Request with "Client sent an HTTP request to an HTTPS server.""#,
        ),
        (
            b"HTTP/1.1 308 Permanent Redirect\r\nlocation: https://h/\r\ncontent-length: 0\r\n\r\n",
            r#"status 308 Permanent Redirect, a redirect to "https://h/", which is not followed"#,
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status 204 No Content without a body"),
    ] {
        let server = Other::start(answer, None).await;
        assert_eq!(server.call(&client, "http").await.unwrap().shown(), shown);
    }
    assert_eq!(shown(&"é\n".repeat(50)), format!("\"{}\"…", "é\\n".repeat(40)));
}
