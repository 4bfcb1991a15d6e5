//! Says in words why a call got no answer: the client's errors name neither the address nor what is accepted.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// Why a call to a server whose address begins with `scheme` got no answer, and what is accepted.
pub(crate) fn describe(error: &(dyn Error + 'static), scheme: &str) -> String {
    let causes = chain(error);
    if let Some(tls) = find::<rustls::Error>(&causes) {
        return of_tls(tls);
    }
    let deepest = causes.last().map_or_else(String::new, ToString::to_string);
    let client = find::<hyper_util::client::legacy::Error>(&causes);
    let is_tls = scheme == "https";
    let http = find::<hyper::Error>(&causes);
    if http.is_some_and(hyper::Error::is_parse) {
        let accepted = if is_tls {
            "the address of its HTTP interface"
        } else {
            "the address of its HTTP interface, or https:// if this port speaks TLS"
        };
        return format!("the answer is not HTTP: {deepest}; accepted: {accepted}");
    }
    let is_cut = find::<io::Error>(&causes).is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
    });
    if is_cut || http.is_some_and(|error| error.is_incomplete_message() || error.is_closed()) {
        let hint = if is_tls {
            "does this port speak TLS? Otherwise give http://"
        } else {
            "does this port speak TLS? Then give https://"
        };
        return format!("the connection was closed without an answer: {deepest}; {hint}");
    }
    if client.is_some_and(hyper_util::client::legacy::Error::is_connect) {
        return format!("cannot connect: {deepest}; accepted: the address of a server that runs");
    }
    deepest
}

fn of_tls(error: &rustls::Error) -> String {
    const AUTHORITIES: &str = "a certificate of an authority that this system trusts, or of one in the PEM file that \
         SSL_CERT_FILE names";
    match error {
        rustls::Error::InvalidMessage(_) => {
            "this port does not speak TLS; accepted: a port that does, or http://".to_owned()
        }
        // An authority that was made anew under its old name did not sign the certificate.
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => format!(
            "its certificate was issued by an authority that is not trusted here; accepted: {AUTHORITIES}"
        ),
        rustls::Error::InvalidCertificate(
            problem @ (CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. }),
        ) => format!(
            "its certificate has another name: {problem}; accepted: an address with a name that the certificate has"
        ),
        // As `openssl req -x509` makes it, unless told otherwise.
        rustls::Error::InvalidCertificate(problem)
            if problem.to_string().contains("CaUsedAsEndEntity") =>
        {
            "its certificate is one of an authority (CA:TRUE), not of a server; accepted: a certificate of a server that such an \
             authority signed, or a self-signed one with CA:FALSE in the PEM file that SSL_CERT_FILE names"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(problem) => {
            format!("its certificate is not valid: {problem}; accepted: {AUTHORITIES}")
        }
        rustls::Error::AlertReceived(alert) => format!(
            "it refused the TLS connection with the alert {alert:?}; accepted: a server that needs no certificate of its clients"
        ),
        other => format!("no TLS connection: {other}; accepted: a server with TLS 1.2 or 1.3"),
    }
}

/// `error` and its causes, outermost first. What an [`io::Error`] wraps is not its source, so it is unwrapped.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        causes.push(error);
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    causes
}

fn find<'e, E: Error + 'static>(causes: &[&'e (dyn Error + 'static)]) -> Option<&'e E> {
    causes.iter().rev().find_map(|cause| cause.downcast_ref())
}
