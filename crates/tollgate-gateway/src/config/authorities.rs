//! The authorities of an upstream: certificates in a PEM file.

use std::fs::File;
use std::io::Read as _;

use http::Uri;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::reader::{Fields, Reader};

const ACCEPTED: &str = "the path of a file with certificates in PEM";

/// The longest file, in bytes. A system's whole list of authorities takes about 220 KiB.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The certificates in the file that the field `caFile` names.
pub(super) fn read(
    reader: &mut Reader,
    fields: &Fields<'_>,
    base_url: Option<&Uri>,
) -> Option<Vec<CertificateDer<'static>>> {
    let field = fields.get("caFile")?;
    let path = reader.text(&field, ACCEPTED)?;
    if base_url.is_some_and(|url| url.scheme_str() != Some("https")) {
        reader.refuse(&field, "has no effect without TLS", "it with a baseUrl of https");
        return None;
    }
    match certificates(path) {
        Ok(certificates) => Some(certificates),
        Err(problem) => {
            reader.refuse(&field, &problem, ACCEPTED);
            None
        }
    }
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error| format!("the file {path:?} cannot be read: {error}");
    let mut pem = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    // One byte more than the bound shows that the file is longer.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut pem).map_err(unreadable)?;
    if pem.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("the file {path:?} has more than {MAX_FILE_BYTES} bytes"));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    let found = found.ok_or_else(|| format!("the file {path:?} contains no certificate in PEM"))?;
    let mut store = RootCertStore::empty();
    for certificate in &found {
        let refused = |error| format!("a certificate in the file {path:?} cannot be used: {error}");
        store.add(certificate.clone()).map_err(refused)?;
    }
    Ok(found)
}
