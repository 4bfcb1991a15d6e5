//! Files that appear completely or not at all.
//!
//! While the simulation runs, lines go to an unnamed file, which the system removes however the process ends. At the
//! end they are copied to a file beside the destination, which is then renamed.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::SimulateError;

/// A file being written; if it is dropped, it leaves nothing behind.
pub(crate) struct OutputFile {
    path: PathBuf,
    unnamed: BufWriter<File>,
}

impl OutputFile {
    /// Starts the file that `flag` requests at `path`.
    pub(crate) fn create(flag: &'static str, path: &Path) -> Result<Self, SimulateError> {
        // Renaming onto a link would replace the link, and renaming onto a device the device.
        let path = match std::fs::canonicalize(path) {
            Ok(existing) if existing.is_file() => existing,
            Ok(_) => {
                let problem = format!("{} is not a regular file", path.display());
                let accepted =
                    "the path of a file in an existing directory; the file itself may exist";
                return Err(SimulateError::Flag { flag, problem, accepted });
            }
            Err(_) => path.to_owned(),
        };
        let unnamed = tempfile::tempfile_in(directory(&path))
            .map_err(|source| SimulateError::write(&path, source))?;
        Ok(Self { path, unnamed: BufWriter::new(unnamed) })
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Copies the lines to a file beside the destination.
    pub(crate) fn stage(self) -> Result<StagedFile, SimulateError> {
        let Self { path, unnamed } = self;
        match stage(&path, unnamed) {
            Ok(temporary) => Ok(StagedFile { path, temporary }),
            Err(source) => Err(SimulateError::write(&path, source)),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unnamed.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unnamed.flush()
    }
}

/// A complete file without its final name; if it is dropped, it leaves nothing behind.
pub(crate) struct StagedFile {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl StagedFile {
    /// Gives the file its name, replacing an existing file.
    pub(crate) fn publish(self) -> Result<(), SimulateError> {
        let Self { path, temporary } = self;
        match temporary.persist(&path) {
            Ok(_) => Ok(()),
            Err(error) => Err(SimulateError::write(&path, error.error)),
        }
    }
}

fn stage(path: &Path, unnamed: BufWriter<File>) -> io::Result<NamedTempFile> {
    let mut unnamed = unnamed.into_inner().map_err(io::IntoInnerError::into_error)?;
    unnamed.rewind()?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tollgate-simulate-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Use the permissions of any new file: the process's umask applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut temporary = builder.tempfile_in(directory(path))?;
    io::copy(&mut unnamed, temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

/// The directory of `path`: a rename is atomic only within one file system.
fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
