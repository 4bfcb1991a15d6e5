//! Files that appear whole or not at all.
//!
//! While the simulation runs, lines go to a file without a name, which the system removes however the process
//! ends. Only when all is done are they copied beside the destination and renamed onto it.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::SimulateError;

/// A file being written; dropped, it leaves nothing behind.
pub(crate) struct OutputFile {
    path: PathBuf,
    unnamed: BufWriter<File>,
}

impl OutputFile {
    /// Begins the file that `flag` asks for at `path`.
    pub(crate) fn create(flag: &'static str, path: &Path) -> Result<Self, SimulateError> {
        // A rename onto a link would replace the link, and one onto a device the device.
        let path = match std::fs::canonicalize(path) {
            Ok(existing) if existing.is_file() => existing,
            Ok(_) => {
                let problem = format!("{} is not a regular file", path.display());
                let accepted = "the path of a file, which may exist, in a directory that does";
                return Err(SimulateError::Flag { flag, problem, accepted });
            }
            Err(_) => path.to_owned(),
        };
        let unnamed = tempfile::tempfile_in(directory(&path))
            .map_err(|source| SimulateError::write(&path, source))?;
        Ok(Self { path, unnamed: BufWriter::new(unnamed) })
    }

    /// Where the file will be.
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

/// A complete file that only lacks its name; dropped, it leaves nothing behind.
pub(crate) struct StagedFile {
    path: PathBuf,
    temporary: NamedTempFile,
}

impl StagedFile {
    /// Gives the file its name, in place of what may have had it.
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
        // As any new file: the process's umask takes its part away.
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
