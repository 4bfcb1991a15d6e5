//! A policy file: its text and its policies.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use tollgate_core::{Accepted, Attribute, Condition, Pattern, Policy, PolicySet};

use crate::api_key::{KeyHash, KeyHasher};
use crate::directory::{Kind, Records};
use crate::document::{self, Format, MAX_DOCUMENT_BYTES, Node};
use crate::environment::{self, Environment, Substitutions};
use crate::error::CatalogError;
use crate::problem::{DocumentProblem, Position, Problems};
use crate::snapshot::{Loaded, Publisher, Snapshot};
use crate::validate::{self, CatalogWarning, DeclaredIds, Places};

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
    examine_with(environment, name, text, format).policies
}

/// What is in a policy file, whether it is valid or not.
#[derive(Debug)]
pub struct Examined<P, E> {
    /// Its policies, or its problems.
    pub policies: Result<P, E>,
    /// What is worth a second look; if there are problems, about the policies that have none.
    pub warnings: Vec<CatalogWarning>,
}

/// What is in `text`, which problems call `name`, with the variables of `environment` put in place of `${NAME}`. The values
/// of variables are in no message.
pub fn examine_with(
    environment: &Environment<'_>,
    name: &str,
    text: &str,
    format: Format,
) -> Examined<Vec<Policy>, Problems> {
    let document = match substituted(environment, text, format) {
        Ok(document) => document,
        Err(problems) => {
            let policies = Err(Problems::of(name, problems, 0));
            return Examined { policies, warnings: Vec::new() };
        }
    };
    let Findings { records, problems, warnings } = document.findings(name);
    Examined { policies: problems.map_or(Ok(records.policies), Err), warnings }
}

/// What is in the file at `path`, as [`load`] reads it.
pub fn examine(path: &Path) -> Examined<PolicySet, CatalogError> {
    let read = || document(path, format_of(path)?, &read_bytes(path)?);
    let document = match read() {
        Ok(document) => document,
        Err(error) => return Examined { policies: Err(error), warnings: Vec::new() },
    };
    let Findings { records, problems, warnings } = document.findings(&path.display().to_string());
    let policies = match problems {
        None => policy_set(path, records.policies),
        Some(problems) => Err(CatalogError::Invalid(problems)),
    };
    Examined { policies, warnings }
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

/// The file at `path` with all its records, as a snapshot that never changes, for checks whose API keys are replaced by what
/// `hasher` makes of them.
pub fn load_snapshot(path: &Path, hasher: &KeyHasher) -> Result<Arc<Snapshot>, CatalogError> {
    snapshot(path, hasher, &document(path, format_of(path)?, &read_bytes(path)?)?)
}

/// The same for a file that was loaded before. One that has become empty is refused, because it is probably being written.
pub fn reload_snapshot(path: &Path, hasher: &KeyHasher) -> Result<Arc<Snapshot>, CatalogError> {
    let document = document(path, format_of(path)?, &read_bytes(path)?)?;
    if document.is_empty() {
        return Err(CatalogError::BecameEmpty { path: path.to_owned() });
    }
    snapshot(path, hasher, &document)
}

fn snapshot(
    path: &Path,
    hasher: &KeyHasher,
    document: &Document,
) -> Result<Arc<Snapshot>, CatalogError> {
    let loaded = compile(path, document, Some(hasher))?;
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

/// The text in `bytes`, the content of the file at `path`.
pub(crate) fn utf8<'b>(path: &Path, bytes: &'b [u8]) -> Result<&'b str, CatalogError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let problem = not_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default());
        invalid(path, vec![problem])
    })
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

    /// What is in it, with its problems under the name `name`. The values of variables are in no message.
    fn findings(&self, name: &str) -> Findings {
        let (root, variables) = (self.root.as_ref(), &self.substitutions);
        // What refers to an id that is not known is no problem of its own.
        let without_ids: Vec<_> =
            Kind::ALL.into_iter().filter(|kind| variables.has_failed_at_an_id(*kind)).collect();
        let scope = if without_ids.is_empty() {
            validate::Scope::Document
        } else {
            validate::Scope::Anywhere
        };
        let (mut records, problems) = validate::valid_records(name, root, scope);
        let (mut found, omitted) = problems.map(Problems::into_parts).unwrap_or_default();
        found.retain(|problem| !variables.has_failed_at(&problem.path));
        for problem in &mut found {
            variables.hide(problem);
        }
        found.extend_from_slice(variables.problems());
        let is_valid = found.is_empty() && omitted == 0;
        let mut declared = DeclaredIds::of_records(&records);
        let places = root.map(Places::of_document).unwrap_or_default();
        if let Some(root) = root.filter(|_| !is_valid) {
            // A record exists even if something else is wrong with it.
            declared.add_written(root);
            for kind in without_ids {
                declared.forget(kind);
            }
            records.policies.retain(|policy| {
                let path = places.index(&policy.id).map(|index| format!("policies[{index}]"));
                !path.is_some_and(|path| variables.has_failed_within(&path))
            });
        }
        let mut warnings = validate::warnings(&records.policies, &declared, &places);
        add_ids_like_patterns(&mut warnings, root);
        for warning in &mut warnings {
            variables.hide(&mut warning.problem);
            // Callers see the ids of policies, and the server finds policies by them.
            if warning.kind != Kind::Policy
                && let Some(written) = variables.written(&warning.id)
            {
                written.clone_into(&mut warning.id);
            }
        }
        let problems = (!is_valid).then(|| Problems::of(name, found, omitted));
        Findings { records, problems, warnings }
    }
}

/// What is in a document.
struct Findings {
    /// Its valid records.
    records: Records,
    /// `None` if it is valid.
    problems: Option<Problems>,
    /// What about the valid policies, and about ids, is worth a second look.
    warnings: Vec<CatalogWarning>,
}

/// The document in `bytes`, the content of the file at `path`.
pub(crate) fn document(
    path: &Path,
    format: Format,
    bytes: &[u8],
) -> Result<Document, CatalogError> {
    let text = utf8(path, bytes)?;
    let environment = |name: &str| std::env::var_os(name);
    substituted(&environment, text, format).map_err(|problems| invalid(path, problems))
}

/// The document in `text`, or why it is none.
fn substituted(
    environment: &Environment<'_>,
    text: &str,
    format: Format,
) -> Result<Document, Vec<DocumentProblem>> {
    let mut root = document::read(text, format)?;
    let substitutions = match &mut root {
        Some(root) => environment::substitute(root, environment),
        None => Substitutions::default(),
    };
    Ok(Document { root, substitutions })
}

/// What about `document`, whose records are `records`, is worth a second look.
pub fn warnings(records: &Records, document: Option<&Node>) -> Vec<CatalogWarning> {
    let declared = DeclaredIds::of_records(records);
    let places = document.map(Places::of_document).unwrap_or_default();
    let mut warnings = validate::warnings(&records.policies, &declared, &places);
    add_ids_like_patterns(&mut warnings, document);
    warnings
}

/// Adds the ids in `document` that look like patterns to `warnings`, in the order of their places.
fn add_ids_like_patterns(warnings: &mut Vec<CatalogWarning>, document: Option<&Node>) {
    warnings.extend(document.map(validate::ids_like_patterns).unwrap_or_default());
    warnings.sort_by_key(|warning| warning.problem.position);
    warnings.truncate(Problems::MAX_KEPT);
}

/// The compiled content of `document`, the content of the file at `path`. Conditions on API keys are about what `hasher`
/// makes of them, which is what checks have.
pub(crate) fn compile(
    path: &Path,
    document: &Document,
    hasher: Option<&KeyHasher>,
) -> Result<Loaded, CatalogError> {
    let name = path.display().to_string();
    let Findings { mut records, problems, warnings } = document.findings(&name);
    if let Some(problems) = problems {
        return Err(CatalogError::Invalid(problems));
    }
    let mut policies = std::mem::take(&mut records.policies);
    if let Some(hasher) = hasher {
        for policy in &mut policies {
            hash_api_keys(policy, hasher);
        }
    }
    let policies = policy_set(path, policies)?;
    Ok(Loaded { policies, listed: records.into(), warnings })
}

/// Refuses `document`, the content of the file at `path`, if a policy in it only means something with leases.
pub(crate) fn refuse_leases(path: &Path, document: &Document) -> Result<(), CatalogError> {
    let mut problems =
        document.root.as_ref().map(validate::document_needs_leases).unwrap_or_default();
    for problem in &mut problems {
        document.substitutions.hide(problem);
    }
    if problems.is_empty() { Ok(()) } else { Err(invalid(path, problems)) }
}

/// The compiled `policies` of the file at `path`.
fn policy_set(path: &Path, policies: Vec<Policy>) -> Result<PolicySet, CatalogError> {
    PolicySet::new(policies)
        .map_err(|error| invalid(path, vec![DocumentProblem::of_text(None, error.to_string(), "")]))
}

/// Replaces the API keys in the conditions of `policy` by the hashes under which checks have them. What is a hash already
/// stays.
pub(crate) fn hash_api_keys(policy: &mut Policy, hasher: &KeyHasher) {
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

pub(crate) fn invalid(path: &Path, problems: Vec<DocumentProblem>) -> CatalogError {
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
