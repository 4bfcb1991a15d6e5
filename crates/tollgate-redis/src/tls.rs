//! What TLS needs: the authorities to trust and the certificate to present. The PEM files are read and checked before
//! anything connects; an error names the file and the problem.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use tollgate_store::{StoreError, StoreErrorKind};

use crate::url::TlsFiles;

/// The longest file that is read, in bytes. A system's whole list of authorities takes about 220 KiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The settings for connections with `files`.
pub(crate) fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>, StoreError> {
    let authorities = match &files.authorities {
        Some(path) => authorities_in(path)?,
        None => authorities_of_the_system()?,
    };
    let settings = with_authorities(authorities)?;
    let (Some(certificate), Some(key)) = (&files.certificate, &files.key) else {
        return Ok(Arc::new(settings.with_no_client_auth()));
    };
    let chain = in_pem("cert", certificate, &read("cert", certificate)?)?;
    let private = PrivateKeyDer::from_pem_slice(&read("key", key)?)
        .map_err(|_| refused("key", key, "it contains no private key in PEM"))?;
    // This also fails if the key does not belong to the certificate.
    let settings = settings
        .with_client_auth_cert(chain, private)
        .map_err(|error| refused("key", key, &error.to_string()))?;
    Ok(Arc::new(settings))
}

/// Settings that trust no server. They suffice to find out whether a server uses TLS.
pub(crate) fn client_config_without_trust() -> Result<Arc<ClientConfig>, StoreError> {
    Ok(Arc::new(with_authorities(RootCertStore::empty())?.with_no_client_auth()))
}

/// The provider is named, because a program may contain several.
fn with_authorities(
    authorities: RootCertStore,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, StoreError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            StoreError::new(StoreErrorKind::Unexpected, "TLS cannot be used").caused_by(error)
        })?;
    Ok(builder.with_root_certificates(authorities))
}

fn authorities_in(path: &Path) -> Result<RootCertStore, StoreError> {
    let mut store = RootCertStore::empty();
    for certificate in in_pem("ca", path, &read("ca", path)?)? {
        store.add(certificate).map_err(|error| refused("ca", path, &error.to_string()))?;
    }
    Ok(store)
}

fn authorities_of_the_system() -> Result<RootCertStore, StoreError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // A system may list a certificate that this library does not understand.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        let context = format!("this system has no list of trusted authorities for TLS{why}");
        return Err(StoreError::new(StoreErrorKind::Unexpected, context)
            .with_remedy("install the system's package ca-certificates, or name the authority of the store's server in its URL with ?ca=FILE"));
    }
    Ok(store)
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
