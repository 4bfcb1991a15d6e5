//! `tollgate policies import`: converts the limits of other programs into Tollgate policies, and lists what they cannot
//! express.
//!
//! Each format has a module that turns the document into rules (`src/rule.rs`). What a rule loses is reported, never
//! approximated: a limit of which a condition cannot be carried over is left out. Every policy is validated before it is
//! returned, so the result loads.
//!
//! This crate must not know a store, a server or a command line, and never puts a secret into a message.

mod attributes;
mod envoy;
mod envoy_order;
mod error;
mod fields;
mod limitador;
mod limitador_condition;
mod litellm;
mod litellm_holder;
mod rule;

use std::fmt;

use tollgate_catalog::document::{self, Entry, Format, Node, Value};
use tollgate_catalog::{Position, validate};

pub use error::ImportError;
use rule::Rules;

/// The program whose limits are imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration of <https://github.com/envoyproxy/ratelimit>.
    EnvoyRatelimit,
    /// The limits file of <https://github.com/Kuadrant/limitador>.
    Limitador,
    /// The configuration of the proxy of <https://github.com/BerriAI/litellm>, and its keys, teams and users.
    Litellm,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EnvoyRatelimit, Self::Limitador, Self::Litellm];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EnvoyRatelimit => "envoy-ratelimit",
            Self::Limitador => "limitador",
            Self::Litellm => "litellm",
        }
    }

    /// The one called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }

    /// What a reader of the policies has to know, line by line.
    fn notes(self) -> &'static [&'static str] {
        match self {
            Self::EnvoyRatelimit => &[
                "Every descriptor of a request is one check: its entries are attributes, and its domain is the attribute",
                "`domain`. A descriptor with more entries than the file names meets the limits of the entries it does name.",
                "Envoy counts in fixed windows, in which twice the limit can pass around an edge. These windows are exact.",
            ],
            Self::Limitador => &[
                "The namespace is the attribute `domain`; the names in conditions and variables are attributes of the check.",
                "Limitador counts in fixed windows, in which twice the limit can pass around an edge. These windows are exact.",
            ],
            Self::Litellm => &[
                "A key is the API key with its alias as id, a team is a tenant, and rpm and tpm are requests and tokens a",
                "minute. Make the keys and tenants in Tollgate's catalog with these ids.",
            ],
        }
    }
}

/// Something in the document that the policies do not express.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub position: Option<Position>,
    /// What it is, such as `max_budget`.
    pub what: String,
    /// Why it was not carried over, and what to do instead if there is something.
    pub why: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        write!(f, "{} — {}", self.what, self.why)
    }
}

/// The result of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    source: Source,
    policies: Vec<Node>,
    /// What was not carried over, in the order of the document.
    pub left_out: Vec<LeftOut>,
}

impl Imported {
    /// The policies as a document, which [`validate::policies`] accepts.
    pub fn document(&self) -> Node {
        let policies = Node::unplaced(Value::List(self.policies.clone()));
        let entry = Entry { key: "policies".to_owned(), key_position: None, node: policies };
        Node::unplaced(Value::Map(vec![entry]))
    }

    /// The policies as a file in YAML, with notes in comments. In such a file a `$` names a variable, so it is doubled.
    pub fn to_yaml(&self) -> String {
        let mut text = format!("# Imported from {}.\n", self.source.name());
        for note in self.source.notes() {
            text = text + "# " + note + "\n";
        }
        text + &document::to_yaml(&self.document()).replace('$', "$$")
    }
}

/// Imports the limits in `text`, the configuration of `source` in `format`.
///
/// An error means that the text is no such configuration. O(n²) in the rules that can apply to the same check, of which
/// there is a bound.
pub fn import(source: Source, text: &str, format: Format) -> Result<Imported, ImportError> {
    let document = document::read(text, format).map_err(ImportError::of)?;
    let document = document.ok_or_else(|| ImportError::at(None, "", "is empty", "a document"))?;
    let mut rules = Rules::default();
    match source {
        Source::EnvoyRatelimit => envoy::rules(&document, &mut rules)?,
        Source::Limitador => limitador::rules(&document, &mut rules)?,
        Source::Litellm => litellm::rules(&document, &mut rules)?,
    }
    let (policies, mut left_out) = rules.into_policies();
    // A stable sort: several reasons at one position stay in their order.
    left_out.sort_by_key(|left_out| left_out.position);
    let imported = Imported { source, policies, left_out };
    validate::policies("the imported policies", Some(&imported.document()))
        .map_err(|problems| ImportError::of(problems.iter().cloned().collect()))?;
    Ok(imported)
}
