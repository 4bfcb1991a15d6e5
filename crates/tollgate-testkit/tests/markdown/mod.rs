//! Parses a Markdown file for the tests of documents: its headings, tables, code and links.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// The items of a document, in order.
pub(crate) struct Document {
    items: Vec<Item>,
}

enum Item {
    /// A heading: its level and its text.
    Heading(usize, String),
    /// Inline code.
    Code(String),
    /// The target of a link or an image.
    Link(String),
    /// A row of a table: the codes in each of its cells. Header rows are not included.
    Row(Vec<Vec<String>>),
}

impl Document {
    /// Reads the file at `path`.
    pub(crate) fn read(path: &Path) -> Self {
        let text =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut reader = Reader::default();
        Parser::new_ext(&text, Options::ENABLE_TABLES).for_each(|event| reader.take(event));
        Self { items: reader.items }
    }

    /// The items below the heading `title`, up to the next heading of its level or above.
    fn section(&self, title: &str) -> &[Item] {
        let is_start = |item: &Item| matches!(item, Item::Heading(_, text) if text == title);
        let start = self.items.iter().position(is_start);
        let start = start.unwrap_or_else(|| panic!("there is no heading {title:?}"));
        let Item::Heading(level, _) = self.items[start] else { return &[] };
        let rest = &self.items[start + 1..];
        let is_end = |item: &Item| matches!(item, Item::Heading(other, _) if *other <= level);
        &rest[..rest.iter().position(is_end).unwrap_or(rest.len())]
    }

    /// The headings below the heading `title`.
    pub(crate) fn headings_in(&self, title: &str) -> Vec<String> {
        let headings = self.section(title).iter().filter_map(|item| match item {
            Item::Heading(_, text) => Some(text.clone()),
            _ => None,
        });
        headings.collect()
    }

    /// The rows of the tables below the heading `title`: the codes of each cell.
    pub(crate) fn table_in(&self, title: &str) -> Vec<Vec<Vec<String>>> {
        let rows = self.section(title).iter().filter_map(|item| match item {
            Item::Row(cells) => Some(cells.clone()),
            _ => None,
        });
        rows.collect()
    }

    /// Every inline code, with the last heading above it.
    pub(crate) fn codes(&self) -> Vec<(String, String)> {
        let mut heading = "";
        let mut codes = Vec::new();
        for item in &self.items {
            match item {
                Item::Heading(_, text) => heading = text,
                Item::Code(code) => codes.push((heading.to_owned(), code.clone())),
                _ => {}
            }
        }
        codes
    }

    /// The targets of its links and images.
    pub(crate) fn links(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter_map(|item| match item {
            Item::Link(link) => Some(link.as_str()),
            _ => None,
        })
    }

    /// The anchors of its headings, as code forges generate them.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let headings = self.items.iter().filter_map(|item| match item {
            Item::Heading(_, text) => Some(anchor(text)),
            _ => None,
        });
        headings.collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

#[derive(Default)]
struct Reader {
    items: Vec<Item>,
    heading: Option<(usize, String)>,
    row: Option<Vec<Vec<String>>>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                self.heading = Some((level as usize, String::new()));
            }
            Event::End(TagEnd::Heading(_)) => {
                self.items
                    .extend(self.heading.take().map(|(level, text)| Item::Heading(level, text)));
            }
            Event::Start(Tag::TableRow) => self.row = Some(Vec::new()),
            Event::End(TagEnd::TableRow) => self.items.extend(self.row.take().map(Item::Row)),
            Event::Start(Tag::TableCell) => {
                if let Some(cells) = &mut self.row {
                    cells.push(Vec::new());
                }
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                self.items.push(Item::Link(dest_url.into_string()));
            }
            Event::Text(text) => {
                if let Some((_, heading)) = &mut self.heading {
                    heading.push_str(&text);
                }
            }
            Event::Code(code) => self.take_code(code.into_string()),
            _ => {}
        }
    }

    fn take_code(&mut self, code: String) {
        if let Some((_, heading)) = &mut self.heading {
            heading.push_str(&code);
        }
        if let Some(cell) = self.row.as_mut().and_then(|cells| cells.last_mut()) {
            cell.push(code.clone());
        }
        self.items.push(Item::Code(code));
    }
}
