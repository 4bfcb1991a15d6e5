//! A policy file: its text and its policies.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use tollgate_core::{Accepted, Attribute, Condition, Pattern, Policy, PolicySet};

use crate::api_key::{KeyHash, KeyHasher};
use crate::directory::Records;
use crate::document::{self, Format, MAX_DOCUMENT_BYTES, Node};
use crate::environment::{self, Environment, Substitutions};
use crate::error::CatalogError;
use crate::problem::{DocumentProblem, Position, Problems};
use crate::snapshot::{Loaded, Publisher, Snapshot};
use crate::validate::{self, DeclaredIds, Places, PolicyWarning};

/// The policies of `text`, which problems call `name`. An empty text has none. Environment variables are not replaced.
///
/// ```
/// use tollgate_catalog::{Format, policy_file};
///
/// let text = "policies:\n  - {id: a, scope: USER, limit: -3, windowSeconds: 60}\n";
/// let problems = policy_file::parse("policies.yaml", text, Format::Yaml).unwrap_err();
/// let shown = problems.to_string();
/// assert!(shown.starts_with("policies.yaml:2:33: policies[0].limit: -3 is negative; accepted: "));
/// ```
pub fn parse(name: &str, text: &str, format: Format) -> Result<Vec<Policy>, Problems> {
    let document =
        document::read(text, format).map_err(|problems| Problems::of(name, problems, 0))?;
    validate::policies(name, document.as_ref())
}

/// The same, with the variables of `environment` put in place of `${NAME}`: for a text that belongs to this machine.
pub fn parse_with(
    environment: &Environment<'_>,
    name: &str,
    text: &str,
    format: Format,
) -> Result<Vec<Policy>, Problems> {
    let document = substituted(environment, text, format)
        .map_err(|problems| Problems::of(name, problems, 0))?;
    document.records(name).map(|records| records.policies)
}

/// Loads the file at `path`; its extension determines its format. The variables of this process's environment are put in
/// place of `${NAME}`.
///
/// If it contains no policy, the built-in default policy applies.
pub fn load(path: &Path) -> Result<PolicySet, CatalogError> {
    let format = format_of(path)?;
    let document = document(path, format, &read_bytes(path)?)?;
    compile(path, &document, None).map(|content| content.policies)
}

/// What about the policies of the file at `path`, which is valid, is worth a second look.
pub fn load_warnings(path: &Path) -> Result<Vec<PolicyWarning>, CatalogError> {
    let format = format_of(path)?;
    let document = document(path, format, &read_bytes(path)?)?;
    compile(path, &document, None).map(|content| content.warnings)
}

/// The same with all records of the file, as a snapshot that never changes, for checks whose API keys are replaced by what
/// `hasher` makes of them.
pub fn load_snapshot(path: &Path, hasher: &KeyHasher) -> Result<Arc<Snapshot>, CatalogError> {
    let format = format_of(path)?;
    let document = document(path, format, &read_bytes(path)?)?;
    let loaded = compile(path, &document, Some(hasher))?;
    Ok(Publisher::new(1, loaded).reader().snapshot())
}

/// The format of the file at `path`.
pub(crate) fn format_of(path: &Path) -> Result<Format, CatalogError> {
    Format::of_path(path).ok_or_else(|| CatalogError::UnknownFormat { path: path.to_owned() })
}

/// The content of the file at `path`, at most [`MAX_DOCUMENT_BYTES`].
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, CatalogError> {
    let unreadable = |source| CatalogError::Unreadable { path: path.to_owned(), source };
    // Checked before opening it: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(CatalogError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // Reading one byte more than the bound shows that the file is longer; it may grow meanwhile.
    let cap = MAX_DOCUMENT_BYTES as u64 + 1;
    file.take(cap).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(CatalogError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

/// A document of this machine, with its variables replaced.
#[derive(Debug)]
pub(crate) struct Document {
    /// `None` if it contains no value.
    root: Option<Node>,
    substitutions: Substitutions,
}

impl Document {
    /// Whether it contains no value.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Its records. The values of variables are not in the problems.
    fn records(&self, name: &str) -> Result<Records, Problems> {
        validate::records(name, self.root.as_ref(), validate::Scope::Document)
            .map_err(|problems| problems.map(|problem| self.substitutions.hide(problem)))
    }

    /// What about the policies of `records`, its records, is worth a second look. The values of variables are not in it.
    fn warnings(&self, records: &Records) -> Vec<PolicyWarning> {
        let mut warnings = warnings(records, self.root.as_ref());
        warnings.iter_mut().for_each(|warning| self.substitutions.hide(&mut warning.problem));
        warnings
    }
}

/// The document in `bytes`, the content of the file at `path`.
pub(crate) fn document(
    path: &Path,
    format: Format,
    bytes: &[u8],
) -> Result<Document, CatalogError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let problem = not_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default());
        invalid(path, vec![problem])
    })?;
    let environment = |name: &str| std::env::var_os(name);
    substituted(&environment, text, format).map_err(|problems| invalid(path, problems))
}

fn substituted(
    environment: &Environment<'_>,
    text: &str,
    format: Format,
) -> Result<Document, Vec<DocumentProblem>> {
    let mut root = document::read(text, format)?;
    let substitutions = match &mut root {
        Some(root) => environment::substitute(root, environment)?,
        None => Substitutions::default(),
    };
    Ok(Document { root, substitutions })
}

/// What about the policies of `document`, whose records are `records`, is worth a second look.
pub fn warnings(records: &Records, document: Option<&Node>) -> Vec<PolicyWarning> {
    let declared = DeclaredIds::of_records(records);
    let places = document.map(Places::of_document).unwrap_or_default();
    validate::warnings(&records.policies, &declared, &places)
}

/// The compiled content of `document`, the content of the file at `path`. Conditions on API keys are about what `hasher`
/// makes of them, which is what checks have.
pub(crate) fn compile(
    path: &Path,
    document: &Document,
    hasher: Option<&KeyHasher>,
) -> Result<Loaded, CatalogError> {
    let name = path.display().to_string();
    let mut records = document.records(&name).map_err(CatalogError::Invalid)?;
    let warnings = document.warnings(&records);
    let mut policies = std::mem::take(&mut records.policies);
    if let Some(hasher) = hasher {
        for policy in &mut policies {
            hash_api_keys(policy, hasher);
        }
    }
    let policies = PolicySet::new(policies).map_err(|error| {
        invalid(path, vec![DocumentProblem::of_text(None, error.to_string(), "")])
    })?;
    Ok(Loaded { policies, listed: records.into(), warnings })
}

/// Replaces the API keys in the conditions of `policy` by the hashes under which checks have them. What is a hash already
/// stays.
fn hash_api_keys(policy: &mut Policy, hasher: &KeyHasher) {
    let of_keys = |one: &&mut Condition| one.attribute == Attribute::ApiKey;
    for condition in policy.conditions.iter_mut().filter(of_keys) {
        let Accepted::AnyOf(patterns) = &mut condition.accepted else { continue };
        for pattern in patterns {
            if let Pattern::Exact(key) = pattern
                && KeyHash::from_hex(key).is_none()
            {
                *key = hasher.hash(key).to_hex();
            }
        }
    }
}

fn invalid(path: &Path, problems: Vec<DocumentProblem>) -> CatalogError {
    CatalogError::Invalid(Problems::of(&path.display().to_string(), problems, 0))
}

/// The problem of a text that is valid UTF-8 only up to `valid`.
fn not_utf8(valid: &[u8]) -> DocumentProblem {
    let valid = String::from_utf8_lossy(valid);
    let line = valid.matches('\n').count() + 1;
    let column = valid.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let position = Some(Position { line, column });
    DocumentProblem::of_text(position, "a byte is not UTF-8", "text in UTF-8")
}
