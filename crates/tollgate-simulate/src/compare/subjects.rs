//! Who sent the checks, and what each of them was allowed. O(subjects) of memory, up to a bound.

use std::collections::HashMap;

use tollgate_core::{Attribute, Check, Timestamp};

use super::report::Pair;

/// What subjects are called by.
pub(super) const KINDS: [Attribute; 4] =
    [Attribute::User, Attribute::ApiKey, Attribute::Tenant, Attribute::Model];

/// Between a user and its tenant: ids have no control characters.
const SEPARATOR: char = '\0';

/// A subject in the rows of its kind; `None` if the check has none or it is beyond the bound.
#[derive(Clone, Copy)]
pub(super) enum Index {
    None,
    Row(usize),
    Beyond,
}

/// The subjects of a check, by kind.
pub(super) type Indices = [Index; KINDS.len()];

/// The names of attributes and their values.
pub(super) type SubjectNames = Vec<(&'static str, String)>;

/// What was allowed.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) checks: u64,
    pub(super) allowed: Pair<u64>,
    pub(super) tokens: Pair<u64>,
    pub(super) lost: u64,
    pub(super) gained: u64,
    pub(super) first_change: Option<Timestamp>,
}

impl Sums {
    fn add(&mut self, at: Timestamp, allowed: Pair<u64>, tokens: u64) {
        self.checks += 1;
        self.allowed.old += allowed.old;
        self.allowed.new += allowed.new;
        self.tokens.old = self.tokens.old.saturating_add(tokens * allowed.old);
        self.tokens.new = self.tokens.new.saturating_add(tokens * allowed.new);
        self.lost += allowed.old.saturating_sub(allowed.new);
        self.gained += allowed.new.saturating_sub(allowed.old);
        if allowed.old != allowed.new {
            self.first_change.get_or_insert(at);
        }
    }

    /// How many more checks, and then tokens, are allowed by the new policies; negative if fewer.
    pub(super) fn change(&self) -> (i128, i128) {
        (self.allowed.change(), self.tokens.change())
    }
}

/// The subjects of one kind.
#[derive(Default)]
pub(super) struct Kind {
    index: HashMap<Box<str>, usize>,
    pub(super) rows: Vec<(Box<str>, Sums)>,
    /// The subjects beyond the bound, together.
    pub(super) beyond: Sums,
}

/// The subjects of all kinds.
pub(super) struct Subjects {
    pub(super) kinds: [Kind; KINDS.len()],
    max: usize,
    user: String,
}

impl Subjects {
    pub(super) fn new(max: usize) -> Self {
        Self { kinds: Default::default(), max, user: String::new() }
    }

    /// The subjects of `check`.
    pub(super) fn find(&mut self, check: &Check<'_>) -> Indices {
        let Self { kinds, max, user } = self;
        let mut indices = [Index::None; KINDS.len()];
        for ((attribute, kind), index) in KINDS.iter().zip(kinds).zip(&mut indices) {
            let Some(mut name) = check.subject.get(attribute) else { continue };
            // Users of two tenants are two, even with one name.
            if *attribute == Attribute::User
                && let Some(tenant) = check.subject.user_tenant()
            {
                user.clear();
                user.extend([name, "\0", tenant]);
                name = user;
            }
            *index = kind.find(name, *max);
        }
        indices
    }

    /// Adds a check of the subjects at `indices`.
    pub(super) fn add(
        &mut self,
        indices: &Indices,
        at: Timestamp,
        allowed: Pair<u64>,
        tokens: u64,
    ) {
        for (kind, index) in self.kinds.iter_mut().zip(indices) {
            match index {
                Index::None => {}
                Index::Row(row) => kind.rows[*row].1.add(at, allowed, tokens),
                Index::Beyond => kind.beyond.add(at, allowed, tokens),
            }
        }
    }

    /// The names of the subjects at `indices`.
    pub(super) fn names(&self, indices: &Indices) -> SubjectNames {
        let mut names = SubjectNames::new();
        for ((attribute, kind), index) in KINDS.iter().zip(&self.kinds).zip(indices) {
            let Index::Row(row) = index else { continue };
            for (name, value) in named(attribute, &kind.rows[*row].0) {
                if !names.iter().any(|(known, _)| *known == name) {
                    names.push((name, value));
                }
            }
        }
        names
    }
}

impl Kind {
    fn find(&mut self, name: &str, max: usize) -> Index {
        if let Some(row) = self.index.get(name) {
            return Index::Row(*row);
        }
        let row = self.rows.len();
        if row >= max {
            return Index::Beyond;
        }
        self.index.insert(name.into(), row);
        self.rows.push((name.into(), Sums::default()));
        Index::Row(row)
    }
}

/// The names of the attributes in the key `key` of the kind `attribute`, and their values.
pub(super) fn named(attribute: &Attribute, key: &str) -> SubjectNames {
    let name = match attribute {
        Attribute::ApiKey => "apiKey",
        Attribute::Tenant => "tenant",
        Attribute::Model => "model",
        _ => "user",
    };
    match key.split_once(SEPARATOR) {
        Some((user, tenant)) => vec![(name, user.to_owned()), ("tenant", tenant.to_owned())],
        None => vec![(name, key.to_owned())],
    }
}
