//! A server that uses TLS and requires client certificates from a private authority.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use super::server::{RedisServer, free_port};

/// The server, and the files for clients.
#[derive(Debug)]
pub struct RedisMutualTls {
    /// The server; it also accepts connections without TLS, on its own port.
    pub server: RedisServer,
    port: u16,
    files: TempDir,
}

impl RedisMutualTls {
    /// A server on `localhost` with these files beside it: `ca.pem`, the authority; `client.pem` and `client.key`, signed
    /// by it; `other.pem` and `other.key`, signed by nobody.
    pub fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| fs::write(files.path().join(name), text).unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        // A certificate with the same name as its authority would count as self-signed.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        write("ca.pem", authority.pem());
        for name in ["server", "client"] {
            let (key, names) = (KeyPair::generate().unwrap(), vec!["localhost".to_owned()]);
            let signed = CertificateParams::new(names).unwrap().signed_by(&key, &authority);
            write(&format!("{name}.pem"), signed.unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
        write("other.pem", other.cert.pem());
        write("other.key", other.signing_key.serialize_pem());
        let port = free_port();
        let (port_text, file) =
            (port.to_string(), |name: &str| files.path().join(name).display().to_string());
        let server = RedisServer::start_with(&[
            "--tls-port",
            &port_text,
            "--tls-auth-clients",
            "yes",
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
        ]);
        Self { server, port, files }
    }

    /// The path of a file.
    pub fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    /// `localhost:PORT` of TLS.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }
}
