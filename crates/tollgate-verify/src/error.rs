//! Why there is no report, or what failed beside it.

use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

use crate::target::CheckError;
use crate::token::TOKEN_VARIABLE;

/// Why a run ended without a report, or what failed after it.
#[derive(Debug)]
#[non_exhaustive]
pub enum VerifyError {
    /// An address is not one of a server.
    Address {
        /// The problem, without the address, which may contain a password.
        problem: String,
    },
    /// The token cannot be used.
    Token {
        /// The problem, without the token.
        problem: &'static str,
    },
    /// No certificate can be verified.
    Authorities {
        /// The problem.
        problem: String,
    },
    /// A server did not answer, or not as a Tollgate does.
    Check(CheckError),
    /// The policies of the deployment leave no limit that can be tested.
    Policies {
        /// The server.
        node: String,
        /// What applies, and what to do.
        problem: String,
    },
    /// A call to `/admin` failed.
    Admin {
        /// The server.
        node: String,
        /// What was to be done.
        action: &'static str,
        /// The problem.
        problem: String,
    },
    /// The policy of the run may still be in the catalog.
    PolicyLeft {
        /// The server.
        node: String,
        /// The policy.
        id: String,
        /// Why it was not deleted.
        problem: String,
    },
    /// The run was interrupted.
    Interrupted,
    /// The report could not be written.
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// This system lacks something, such as random numbers.
    System(io::Error),
}

impl VerifyError {
    /// The exit code of the process: 130 after an interruption, 1 if the report could not be written, otherwise 2.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => 130,
            Self::File { .. } | Self::System(_) => 1,
            _ => 2,
        }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { problem } => {
                write!(
                    f,
                    "--server: {problem}; accepted: http://HOST[:PORT] or https://HOST[:PORT], each server once"
                )
            }
            Self::Token { problem } => write!(
                f,
                "{TOKEN_VARIABLE}: {problem}; accepted: an admin token of the deployment that may write, or an unset variable, to \
                 test a policy that the deployment has"
            ),
            Self::Authorities { problem } => write!(
                f,
                "no certificate of an https:// server can be verified: {problem}; accepted: authorities in the PEM file that \
                 SSL_CERT_FILE names or in the directories of SSL_CERT_DIR, or, if neither is set, those of the system, such as \
                 the package ca-certificates"
            ),
            Self::Check(CheckError { node, problem }) | Self::Policies { node, problem } => {
                write!(f, "{node}: {problem}")
            }
            Self::Admin { node, action, problem } => {
                write!(f, "{node}: cannot {action}: {problem}")
            }
            Self::PolicyLeft { node, id, problem } => write!(
                f,
                "{node}: the policy {id} of this run may be left in the catalog: {problem}; it applies only to checks of this \
                 run; delete it with: curl -X DELETE -H \"authorization: Bearer $TOLLGATE_ADMIN_TOKEN\" \
                 {node}/admin/policies/{id}"
            ),
            Self::Interrupted => f.write_str("interrupted; no promise was judged"),
            Self::File { path, .. } => write!(f, "cannot write {}", path.display()),
            Self::System(_) => f.write_str("cannot begin"),
        }
    }
}

impl Error for VerifyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::File { source, .. } | Self::System(source) => Some(source),
            _ => None,
        }
    }
}

impl From<CheckError> for VerifyError {
    fn from(error: CheckError) -> Self {
        Self::Check(error)
    }
}
