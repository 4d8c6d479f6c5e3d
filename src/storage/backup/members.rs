//! The files of a backup as a log's folder shows them: under their own names, and as long as they were made.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::files::{Files, LogFile, failed};
use super::manifest::Member;
use crate::error::{Error, Reason, Result};
use crate::format::crc;
use crate::format::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};

/// The folder with the files, in the folder of a backup.
pub(super) const FILES_FOLDER: &str = "log";
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// The files of a backup, to be read only.
pub(super) struct Members {
    folder: PathBuf,
    members: Vec<Member>,
}

impl Members {
    /// These, in the folder of this backup.
    pub(super) fn new(backup: &Path, members: &[Member]) -> Self {
        let mut members = members.to_vec();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Self { folder: backup.join(FILES_FOLDER), members }
    }
}

impl Files for Members {
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let member = self.members.iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| io::Error::from(ErrorKind::NotFound))?;
        let file = File::open(self.folder.join(&member.file))?;
        let mut head = [0; SEGMENT_HEADER_BYTES];
        let made = if member.length >= head.len() as u64 && name.ends_with(".log") {
            file.read_exact_at(&mut head, 0)?;
            // What is no header is told of by whoever reads it.
            SegmentHeader::decode(&head).map_or(0, |header| header.length)
        } else {
            0
        };
        Ok(Arc::new(Prefix { file, length: member.length, made: made.max(member.length) }))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.members.iter().map(|member| member.name.clone()).collect())
    }
    fn create(&self, _: &str, _: u64) -> io::Result<Arc<dyn LogFile>> {
        read_only()
    }
    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        read_only()
    }
    fn remove(&self, _: &str) -> io::Result<()> {
        read_only()
    }
    fn sync_dir(&self) -> io::Result<()> {
        read_only()
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::from(ErrorKind::ReadOnlyFilesystem))
}

/// The beginning of a file; the rest of it was allocated and not yet written to, so it is zeros.
struct Prefix {
    file: File,
    length: u64,
    made: u64,
}

impl LogFile for Prefix {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let want = self.made.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let here = self.length.saturating_sub(offset).min(want as u64) as usize;
        self.file.read_exact_at(&mut buffer[..here], offset)?;
        buffer[here..want].fill(0);
        Ok(want)
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.made)
    }
    fn write_at(&self, _: &[&[u8]], _: u64) -> io::Result<()> {
        read_only()
    }
    fn sync(&self) -> io::Result<()> {
        read_only()
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        read_only()
    }
    fn uncache(&self, _: u64, _: u64) {}
}

/// Reads the beginning of a file, hands on each piece, and answers its checksum; `None` where the file is shorter.
pub(super) fn read_through(path: &Path, length: u64, on: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<Option<u32>> {
    let reading = |error: io::Error| failed("reading", &path.display().to_string(), &error);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(reading(error)),
    };
    let (mut sum, mut left) = (0, length);
    let mut buffer = vec![0; READ_BYTES];
    while left > 0 {
        let step = buffer.len().min(left as usize);
        match file.read(&mut buffer[..step]) {
            Ok(0) => return Ok(None),
            Ok(read) => {
                sum = crc::content_continued(sum, &buffer[..read]);
                on(&buffer[..read])?;
                left -= read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(reading(error)),
        }
    }
    Ok(Some(sum))
}

/// Checks a file of a whole backup; `CORRUPT` with its name where it is not what the manifest says.
pub(super) fn check(backup: &Path, member: &Member, on: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let path = backup.join(FILES_FOLDER).join(&member.file);
    let what = match read_through(&path, member.length, on)? {
        Some(sum) if sum == member.crc32c => return Ok(()),
        Some(_) => "does not match its checksum".to_owned(),
        None => format!("is missing or shorter than its {} bytes", member.length),
    };
    let name = path.display().to_string();
    Err(Error::new(Reason::Corrupt, format!("the backup is damaged: {name} {what}")).with("file", name))
}
