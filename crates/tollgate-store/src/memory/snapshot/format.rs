//! The form of a snapshot: `tollgate`, the version, and sections, each a kind, a length, that many bytes and a checksum.
//!
//! Numbers are little-endian. The bytes of a section are in postcard's format, whose stability is documented. The checksum of a
//! section is the CRC-32 of all before it in the section. The last section says how many came before it, so that a file that was
//! cut between two sections is not whole.

use std::fmt;
use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

const MAGIC: &[u8; 8] = b"tollgate";
/// Changes with every change of what a section holds.
const VERSION: u32 = 2;
/// The bytes before those of a section: the kind and the length.
const HEAD_BYTES: usize = 9;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Header = 1,
    Keys = 2,
    Leases = 3,
    RequestIds = 4,
    End = 5,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Header, Self::Keys, Self::Leases, Self::RequestIds, Self::End];
}

/// Why a snapshot cannot be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It could not be read at all.
    Io(io::Error),
    /// It does not begin like a snapshot.
    NotASnapshot,
    /// It has this version, which is not the one that can be read.
    Version(u32),
    /// It is cut or changed: where, in bytes from its beginning, and what is wrong.
    Damaged(u64, &'static str),
    /// Keys are hashed otherwise than when it was written.
    OtherKeys,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "it could not be read: {error}"),
            Self::NotASnapshot => {
                f.write_str("it is not a snapshot of usage: it does not begin with `tollgate`")
            }
            Self::Version(version) => {
                write!(f, "it has version {version}; this program reads version {VERSION}")
            }
            Self::Damaged(at, problem) => write!(f, "it is damaged at byte {at}: {problem}"),
            Self::OtherKeys => f.write_str("the program that wrote it hashes keys otherwise"),
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Writes sections.
pub(super) struct Writer<W> {
    to: W,
    bytes: Vec<u8>,
    sections: u64,
    written: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(mut to: W) -> io::Result<Self> {
        to.write_all(MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        let written = (MAGIC.len() + size_of_val(&VERSION)) as u64;
        Ok(Self { to, bytes: Vec::new(), sections: 0, written })
    }

    pub(super) fn section(&mut self, kind: Kind, content: &impl Serialize) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        bytes.push(kind as u8);
        bytes.extend([0; HEAD_BYTES - 1]);
        let mut bytes = postcard::to_extend(content, bytes).map_err(io::Error::other)?;
        let length = (bytes.len() - HEAD_BYTES) as u64;
        bytes[1..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        self.to.write_all(&bytes)?;
        self.sections += 1;
        self.written += bytes.len() as u64;
        self.bytes = bytes;
        Ok(())
    }

    /// Writes the last section. Returns how many bytes there are in all.
    pub(super) fn end(mut self) -> io::Result<u64> {
        self.section(Kind::End, &self.sections.clone())?;
        self.to.flush()?;
        Ok(self.written)
    }
}

/// Reads sections.
pub(super) struct Reader<R> {
    from: R,
    bytes: Vec<u8>,
    /// Where the section that was read last begins.
    at: u64,
    next: u64,
    sections: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn begin(mut from: R) -> Result<Self, SnapshotError> {
        let mut magic = [0; MAGIC.len()];
        let mut version = [0; size_of::<u32>()];
        for bytes in [&mut magic[..], &mut version[..]] {
            from.read_exact(bytes).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => SnapshotError::NotASnapshot,
                _ => SnapshotError::Io(error),
            })?;
        }
        if magic != *MAGIC {
            return Err(SnapshotError::NotASnapshot);
        }
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let next = (magic.len() + size_of_val(&version)) as u64;
        Ok(Self { from, bytes: Vec::new(), at: next, next, sections: 0 })
    }

    pub(super) fn damaged(&self, problem: &'static str) -> SnapshotError {
        SnapshotError::Damaged(self.at, problem)
    }

    fn take(&mut self, count: u64) -> Result<(), SnapshotError> {
        // Grows with what is there, so a wrong length takes no memory.
        let read = self.from.by_ref().take(count).read_to_end(&mut self.bytes);
        if read.map_err(SnapshotError::Io)? as u64 == count {
            return Ok(());
        }
        Err(self.damaged("it ends in a section"))
    }

    /// Reads the next section. Its content is in [`Reader::content`].
    pub(super) fn section(&mut self) -> Result<Kind, SnapshotError> {
        self.at = self.next;
        self.bytes.clear();
        self.take(HEAD_BYTES as u64)?;
        let kind = self.bytes[0];
        let length = self.bytes[1..HEAD_BYTES].first_chunk().copied().map(u64::from_le_bytes);
        let length = length.unwrap_or_default();
        let checksum_bytes = size_of::<u32>() as u64;
        let rest = length.checked_add(checksum_bytes);
        self.take(rest.ok_or_else(|| self.damaged("a section has an impossible length"))?)?;
        let (content, checksum) = self.bytes.split_last_chunk().unwrap_or((&[], &[0; 4]));
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return Err(self.damaged("the checksum of a section does not match"));
        }
        self.next = self.at + HEAD_BYTES as u64 + length + checksum_bytes;
        self.sections += 1;
        let known = Kind::ALL.into_iter().find(|one| *one as u8 == kind);
        known.ok_or_else(|| self.damaged("a section is of no known kind"))
    }

    /// The content of the section that was read last.
    pub(super) fn content<T: DeserializeOwned>(&self) -> Result<T, SnapshotError> {
        let content = &self.bytes[HEAD_BYTES..self.bytes.len() - size_of::<u32>()];
        match postcard::take_from_bytes(content) {
            Ok((content, [])) => Ok(content),
            _ => Err(self.damaged("a section does not hold what its kind says")),
        }
    }

    /// Checks the last section.
    pub(super) fn end(mut self) -> Result<(), SnapshotError> {
        if self.content::<u64>()? != self.sections - 1 {
            return Err(self.damaged("sections are missing"));
        }
        self.at = self.next;
        self.bytes.clear();
        let more = self.from.by_ref().take(1).read_to_end(&mut self.bytes);
        match more.map_err(SnapshotError::Io)? {
            0 => Ok(()),
            _ => Err(self.damaged("something follows its end")),
        }
    }
}
