//! The problems of a document: each with its position, its path, and what is accepted instead.

use std::error::Error;
use std::fmt;

/// A position in a text: both numbers count from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Position {
    /// The first character of a text.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One problem.
///
/// It is displayed as `12:12: policies[2].limit: -3 is negative; accepted: …`, without the parts that are not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentProblem {
    /// The position, if the document was parsed from a text.
    pub position: Option<Position>,
    /// Which value, such as `policies[2].limit`; empty for the document itself.
    pub path: String,
    /// What is wrong; shows the value, shortened.
    pub message: String,
    /// What is accepted instead; empty if the message says it already.
    pub accepted: String,
}

impl DocumentProblem {
    /// A problem of the document as a text.
    pub(crate) fn of_text(
        position: Option<Position>,
        message: impl Into<String>,
        accepted: impl Into<String>,
    ) -> Self {
        Self { position, path: String::new(), message: message.into(), accepted: accepted.into() }
    }
}

impl fmt::Display for DocumentProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if !self.accepted.is_empty() {
            write!(f, "; accepted: {}", self.accepted)?;
        }
        Ok(())
    }
}

/// All problems of a document; never empty.
///
/// Displays one problem per line, each with the document's name in front: `policies.yaml:12:12: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    name: String,
    kept: Vec<DocumentProblem>,
    omitted: usize,
}

impl Problems {
    /// The most problems that are kept; further ones are only counted.
    pub const MAX_KEPT: usize = 1_000;

    /// The problems `kept` of the document called `name`, and `omitted` more. There must be at least one.
    pub fn of(name: &str, mut kept: Vec<DocumentProblem>, mut omitted: usize) -> Self {
        // A stable sort: problems at the same position stay in the order in which they were found.
        kept.sort_by_key(|problem| problem.position);
        omitted += kept.len().saturating_sub(Self::MAX_KEPT);
        kept.truncate(Self::MAX_KEPT);
        Self { name: name.to_owned(), kept, omitted }
    }

    /// The problems, and how many more there are.
    pub(crate) fn into_parts(self) -> (Vec<DocumentProblem>, usize) {
        (self.kept, self.omitted)
    }

    /// The name of the document, as it was given; may be empty.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The problems, sorted by position.
    pub fn iter(&self) -> std::slice::Iter<'_, DocumentProblem> {
        self.kept.iter()
    }

    /// How many more problems there are than [`Problems::iter`] returns.
    pub fn omitted(&self) -> usize {
        self.omitted
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a DocumentProblem;
    type IntoIter = std::slice::Iter<'a, DocumentProblem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.kept.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            match (self.name.as_str(), problem.position) {
                ("", _) => {}
                (name, Some(_)) => write!(f, "{name}:")?,
                (name, None) => write!(f, "{name}: ")?,
            }
            write!(f, "{problem}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n… and {} more problems", self.omitted)?;
        }
        Ok(())
    }
}

impl Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize) -> DocumentProblem {
        DocumentProblem::of_text(Some(Position { line, column: 1 }), "is wrong", "")
    }

    #[test]
    fn problems_are_shown_one_a_line_in_the_order_of_their_places() {
        let mut limit = problem(12);
        limit.path = "policies[2].limit".to_owned();
        limit.accepted = "0".to_owned();
        let problems = Problems::of("p.yaml", vec![limit, problem(3)], 0);
        let shown = "p.yaml:3:1: is wrong\np.yaml:12:1: policies[2].limit: is wrong; accepted: 0";
        assert_eq!(problems.to_string(), shown);
    }

    #[test]
    fn a_problem_without_place_or_name_shows_neither() {
        let unplaced = DocumentProblem::of_text(None, "is wrong", "");
        assert_eq!(Problems::of("", vec![unplaced.clone()], 0).to_string(), "is wrong");
        assert_eq!(Problems::of("p.yaml", vec![unplaced], 0).to_string(), "p.yaml: is wrong");
    }

    #[test]
    fn problems_beyond_the_cap_are_counted() {
        let problems = Problems::of("p", vec![problem(1); Problems::MAX_KEPT + 2], 3);
        assert_eq!(problems.iter().count(), Problems::MAX_KEPT);
        assert_eq!(problems.omitted(), 5);
        assert!(problems.to_string().ends_with("… and 5 more problems"));
    }
}
