//! Reads a configuration from its file.

use std::error::Error;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use tollgate_catalog::document::{self, Format};
use tollgate_catalog::{DocumentProblem, Problems};

use super::{GatewayConfig, validate};

/// The longest file, in bytes: enough for [`MAX_MODELS`](super::MAX_MODELS) models.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The configuration of a gateway could not be read, or is invalid.
#[derive(Debug)]
pub enum ConfigError {
    /// The file could not be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is invalid.
    Invalid(Problems),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, .. } => write!(f, "{}: cannot be read", path.display()),
            Self::Invalid(problems) => problems.fmt(f),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Invalid(_) => None,
        }
    }
}

impl GatewayConfig {
    /// The configuration in the file at `path`, whose extension determines its format. The keys of upstreams come from
    /// `environment`.
    pub fn load(
        path: &Path,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let Some(format) = Format::of_path(path) else {
            let problem = plain("unknown extension", Format::ACCEPTED_EXTENSIONS);
            return Err(ConfigError::Invalid(Problems::of(&name, vec![problem], 0)));
        };
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(unreadable)?;
        // One byte more than the bound shows that the file is longer.
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            let problem = plain("is too long", &format!("at most {MAX_FILE_BYTES} bytes"));
            return Err(ConfigError::Invalid(Problems::of(&name, vec![problem], 0)));
        }
        Self::parse(&name, &text, format, environment).map_err(ConfigError::Invalid)
    }

    /// The configuration in `text`, which problems call `name`.
    pub fn parse(
        name: &str,
        text: &str,
        format: Format,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Problems> {
        let document = document::read(text, format);
        let document = document.map_err(|problems| Problems::of(name, problems, 0))?;
        validate::config(document.as_ref(), &environment)
            .map_err(|problems| Problems::of(name, problems, 0))
    }
}

fn plain(message: &str, accepted: &str) -> DocumentProblem {
    DocumentProblem {
        position: None,
        path: String::new(),
        message: message.to_owned(),
        accepted: accepted.to_owned(),
    }
}
