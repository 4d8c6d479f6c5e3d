//! The files under the log: two small traits, and the real thing.
//!
//! A folder of flat names. A file is made with its length allocated, so that writing inside it cannot run out of room;
//! names become durable with [`Files::sync_dir`] only. The twin that loses, tears and fails is in `sim.rs`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, AtFlags, Dir, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::{Error, Reason};

/// A folder of files.
pub trait Files: Send + Sync {
    /// Makes a file of zeros with its whole length allocated and durable; its name is not, yet.
    /// Where that fails, no such file is left.
    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn LogFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>>;
    /// The names in the folder, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Gives a file another name, replacing the file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; what is open stays readable.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file.
pub trait LogFile: Send + Sync {
    /// Writes all the parts, one after the other, at this offset.
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Reads until the buffer is full or the file ends; answers how much was read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Shortens the file; durable with the next sync.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// Says that this stretch, which is synced, is not soon read from this file. Does nothing but free memory.
    fn uncache(&self, offset: u64, length: u64);
}

/// A folder of the file system: the one that was opened, whatever has its path later.
#[derive(Debug)]
pub struct RealFiles {
    handle: File,
    writable: bool,
}

impl RealFiles {
    /// The folder at this path, made where it is missing; its parent is synced then.
    pub fn open(folder: &Path) -> io::Result<Self> {
        make_folder(folder)?;
        Ok(Self { handle: File::open(folder)?, writable: true })
    }

    /// The folder at this path, to be read only: its files open without the right to write.
    pub(super) fn read_only(folder: &Path) -> io::Result<Self> {
        Ok(Self { handle: File::open(folder)?, writable: false })
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let opened = rustix::fs::openat(&self.handle, name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))?;
        Ok(File::from(opened))
    }
}

/// Makes a folder where there is none, with those that it lies in, each durable in the one around it.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    make_folder(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    sync_folder(parent)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The folder that a path lies in.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

impl Files for RealFiles {
    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn LogFile>> {
        // Growing a file beyond the limit raises SIGXFSZ, which ends the process unless it is handled: ask first.
        if getrlimit(Resource::Fsize).current.is_some_and(|limit| length > limit) {
            return Err(io::Error::from(ErrorKind::FileTooLarge));
        }
        let file = self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
        let allocated = allocate(&file, length).and_then(|()| file.sync_all());
        if let Err(error) = allocated {
            // The error that matters is the first; a file that stays is taken away at the next start.
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let access = if self.writable { OFlags::RDWR } else { OFlags::RDONLY };
        Ok(Arc::new(RealFile(self.open_with(name, access)?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.handle)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(String::from_utf8_lossy(name).into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

fn allocate(file: &File, length: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(file, length),
        other => other.map_err(io::Error::from),
    }
}

/// Allocates by writing, where the file system cannot do it otherwise.
fn fill(file: &File, length: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < length {
        let step = zeros.len().min((length - offset) as usize);
        file.write_all_at(&zeros[..step], offset)?;
        offset += step as u64;
    }
    Ok(())
}

#[derive(Debug)]
struct RealFile(File);

impl LogFile for RealFile {
    fn write_at(&self, parts: &[&[u8]], mut offset: u64) -> io::Result<()> {
        // Linux takes at most 1024 slices a call.
        for group in parts.chunks(1024) {
            let mut slices: Vec<IoSlice<'_>> = group.iter().map(|part| IoSlice::new(part)).collect();
            let mut rest = &mut slices[..];
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.0, rest, offset) {
                    Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero)),
                    Ok(written) => {
                        offset += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn uncache(&self, offset: u64, length: u64) {
        // Advice: where it is not taken, the pages go when the system wants them.
        let _ = rustix::fs::fadvise(&self.0, offset, NonZeroU64::new(length), Advice::DontNeed);
    }
}

/// Makes a file in the place of what an attempt that failed may have left under its name.
pub(super) fn create_anew(files: &dyn Files, name: &str, length: u64) -> io::Result<Arc<dyn LogFile>> {
    match files.remove(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => files.create(name, length),
    }
}

/// Whether the error says that there is no room: a full disk, a quota, a limit on file sizes.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// Whether the error says that the process or the system has too many files open, which passes.
pub(super) fn is_short_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::MFILE | Errno::NFILE))
}

/// Descriptors that this process may have.
pub(super) fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The error of something that failed on a file: `STORAGE_FULL` where room is what is missing.
pub(super) fn failed(doing: &str, name: &str, error: &io::Error) -> Error {
    let reason = if is_full(error) { Reason::StorageFull } else { Reason::StorageFailed };
    Error::new(reason, format!("{doing} {name}: {error}")).with("file", name)
}
