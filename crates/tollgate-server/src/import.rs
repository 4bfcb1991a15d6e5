//! `tollgate policies import`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tollgate_catalog::Format;
use tollgate_catalog::document::MAX_DOCUMENT_BYTES;
use tollgate_import::Source;

/// Everything was carried over.
const COMPLETE: u8 = 0;
/// The file cannot be read, or is no configuration of the program.
const BAD_INPUT: u8 = 2;
/// The policies are printed, but something was not carried over.
const INCOMPLETE: u8 = 3;

pub(crate) const AFTER_HELP: &str = "What policies cannot express is listed on standard error, as FILE:LINE:COLUMN: what — why.\n\n\
     Exit code: 0 if everything was carried over, 3 if something was not, 2 if the file is no configuration of the program.";

/// What the command prints, and its exit code.
pub(crate) struct Imported {
    pub(crate) output: String,
    pub(crate) error: String,
    pub(crate) code: u8,
}

/// The program called `name`, for the command line.
pub(crate) fn parse_source(name: &str) -> Result<Source, String> {
    Source::parse(name)
        .ok_or_else(|| format!("accepted: {}", Source::ALL.map(Source::name).join(", ")))
}

/// Imports the limits in `file`, the configuration of `source`.
pub(crate) fn run(source: Source, file: &Path) -> Imported {
    let (name, format) = if file == Path::new("-") {
        ("standard input".to_owned(), Format::Yaml)
    } else {
        (file.display().to_string(), Format::of_path(file).unwrap_or(Format::Yaml))
    };
    let bad = |error: String| Imported { output: String::new(), error, code: BAD_INPUT };
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => return bad(format!("error: {name}: {error}\n")),
    };
    let imported = match tollgate_import::import(source, &text, format) {
        Ok(imported) => imported,
        Err(error) => {
            let lines = error.problems.iter().map(|problem| {
                String::from("error: ") + &placed(&name, problem.position, &problem.to_string())
            });
            return bad(lines.collect());
        }
    };
    let left_out = &imported.left_out;
    let error = left_out.iter().map(|one| placed(&name, one.position, &one.to_string())).collect();
    let code = if left_out.is_empty() { COMPLETE } else { INCOMPLETE };
    Imported { output: imported.to_yaml(), error, code }
}

/// A line about the file `name`; `text` begins with its position, if there is one.
fn placed(name: &str, position: Option<tollgate_catalog::Position>, text: &str) -> String {
    let separator = if position.is_some() { ":" } else { ": " };
    format!("{name}{separator}{text}\n")
}

/// The text of `file`, at most as long as a document may be.
fn read(file: &Path) -> io::Result<String> {
    let cap = MAX_DOCUMENT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(cap).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(cap).read_to_end(&mut bytes)?;
    }
    // The reader refuses what is longer than a document.
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::other(format!("byte {at} is not UTF-8"))
    })
}
