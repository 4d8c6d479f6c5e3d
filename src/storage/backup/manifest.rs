//! The manifest of a backup: what belongs to it, with checksums. It is written last, so that what has one is whole.
//!
//! Two lines: a JSON object, and the checksum of that line. `docs/FORMAT.md` describes the members.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::files::failed;
use super::{Covered, Moment};
use crate::error::{Error, Reason, Result};
use crate::format::crc;
use crate::types::LogPosition;

/// The manifest's name in the folder of a backup.
pub(super) const MANIFEST: &str = "BACKUP";
pub(super) const MANIFEST_TEMPORARY: &str = "BACKUP.tmp";
/// Version of the manifest.
const VERSION: u32 = 1;
const FORMAT: &str = "synapse-backup";

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Its name in the log's folder.
    pub(super) name: String,
    /// Its name in the folder of the backup.
    pub(super) file: String,
    /// How many bytes of it belong to the backup.
    pub(super) length: u64,
    /// CRC-32C of them.
    pub(super) crc32c: u32,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: String,
    version: u32,
    /// Id of the store, 32 hexadecimal digits.
    pub(super) store: String,
    oldest_position: u64,
    oldest_ms: u64,
    end_position: u64,
    end_ms: u64,
    pub(super) files: Vec<Member>,
}

impl Manifest {
    pub(super) fn new(store: String, covered: Covered, files: Vec<Member>) -> Self {
        let Covered { oldest, end } = covered;
        Self {
            format: FORMAT.into(),
            version: VERSION,
            store,
            oldest_position: oldest.position.0,
            oldest_ms: oldest.wall_ms,
            end_position: end.position.0,
            end_ms: end.wall_ms,
            files,
        }
    }

    pub(super) fn covered(&self) -> Covered {
        let moment = |position, wall_ms| Moment { position: LogPosition(position), wall_ms };
        Covered { oldest: moment(self.oldest_position, self.oldest_ms), end: moment(self.end_position, self.end_ms) }
    }

    /// Reads the manifest of a folder; `None` where there is none, `DATA_DIRECTORY` where it cannot be used.
    pub(super) fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        let name = path.display().to_string();
        match fs::read(&path) {
            Ok(bytes) => Self::parse(&bytes, &name).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("reading", &name, &error)),
        }
    }

    fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        let unusable = |why: String| Error::new(Reason::DataDirectory, format!("{name} {why}")).with("file", name);
        let damaged = || unusable("is damaged: it does not match its checksum".into());
        let (line, sum) = bytes.strip_suffix(b"\n").and_then(split_last_line).ok_or_else(damaged)?;
        if sum != format!("crc32c {:08x}", crc::content(line)).as_bytes() {
            return Err(damaged());
        }
        #[derive(Deserialize)]
        struct Which {
            format: String,
            version: u32,
        }
        let wrong = |error: serde_json::Error| unusable(format!("is not the manifest of a backup: {error}"));
        let Which { format, version } = serde_json::from_slice(line).map_err(wrong)?;
        if format != FORMAT || version != VERSION {
            let known = format!("{FORMAT:?} of version {VERSION}");
            return Err(unusable(format!("says format {format:?} of version {version}; this program knows {known}")));
        }
        let manifest: Self = serde_json::from_slice(line).map_err(wrong)?;
        match manifest.files.iter().find(|member| !is_plain(&member.name) || !is_plain(&member.file)) {
            Some(bad) => Err(unusable(format!("names a file {:?}, which no backup has", bad.file))),
            None => Ok(manifest),
        }
    }

    /// Puts it into its place in a folder, durably.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let line = serde_json::to_vec(self).map_err(io::Error::other)?;
        let mut file = File::create(folder.join(MANIFEST_TEMPORARY))?;
        file.write_all(&line)?;
        writeln!(file, "\ncrc32c {:08x}", crc::content(&line))?;
        file.sync_all()?;
        fs::rename(folder.join(MANIFEST_TEMPORARY), folder.join(MANIFEST))?;
        File::open(folder)?.sync_all()
    }
}

fn split_last_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().rposition(|byte| *byte == b'\n')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Whether it is a name of letters, digits, dots and dashes: never a way out of the folder.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_byte_of_a_manifest_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), None);
        let moment = |position, wall_ms| Moment { position: LogPosition(position), wall_ms };
        let covered = Covered { oldest: moment(1, 2), end: moment(3, 4) };
        let member = Member { name: "a.log".into(), file: "a.log-1".into(), length: 7, crc32c: 8 };
        let manifest = Manifest::new("00".repeat(16), covered, vec![member]);
        manifest.write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), Some(manifest.clone()));
        assert_eq!(manifest.covered(), covered);
        let path = folder.path().join(MANIFEST);
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(Manifest::read(folder.path()).unwrap_err().reason(), Reason::DataDirectory, "{at}");
        }
    }

    #[test]
    fn names_lead_nowhere_else() {
        assert!(is_plain("c00000000000000000001.log-0a0b0c0d"));
        for bad in ["", "..", "../x", "a/b", ".hidden", "a b"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
