//! The PEM files for TLS. They are read and checked before anything connects; an error names the file and the problem.

use std::fs;
use std::path::Path;

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tollgate_store::{StoreError, StoreErrorKind};

use crate::url::TlsFiles;

/// The longest file that is read, in bytes. A system's whole list of authorities takes about 220 KiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The contents of `files`.
pub(crate) fn certificates(files: &TlsFiles) -> Result<TlsCertificates, StoreError> {
    let mut root_cert = None;
    if let Some(path) = &files.authorities {
        let pem = read("ca", path)?;
        let mut store = RootCertStore::empty();
        for certificate in in_pem("ca", path, &pem)? {
            store.add(certificate).map_err(|error| refused("ca", path, &error.to_string()))?;
        }
        root_cert = Some(pem);
    }
    let mut client_tls = None;
    if let (Some(certificate), Some(key)) = (&files.certificate, &files.key) {
        let client_cert = read("cert", certificate)?;
        let chain = in_pem("cert", certificate, &client_cert)?;
        let client_key = read("key", key)?;
        let private = PrivateKeyDer::from_pem_slice(&client_key)
            .map_err(|_| refused("key", key, "it contains no private key in PEM"))?;
        // This also fails if the key does not belong to the certificate.
        CertifiedKey::from_der(chain, private, &ring::default_provider())
            .map_err(|error| refused("key", key, &error.to_string()))?;
        client_tls = Some(ClientTlsConfig { client_cert, client_key });
    }
    Ok(TlsCertificates { client_tls, root_cert })
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    let failed = |error: std::io::Error| refused(option, path, &error.to_string());
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(refused(option, path, &format!("it has more than {MAX_FILE_BYTES} bytes")));
    }
    fs::read(path).map_err(failed)
}

fn in_pem(
    option: &str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(refused(option, path, "it contains no certificate in PEM")),
    }
}

fn refused(option: &str, path: &Path, problem: &str) -> StoreError {
    let context = format!(
        "the file of the option `{option}` of the store's URL, {}, cannot be used: {problem}",
        path.display()
    );
    StoreError::new(StoreErrorKind::Unexpected, context)
}
