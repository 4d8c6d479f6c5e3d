//! A disk in memory: a write is durable at once, and nothing is lost when an engine over it is dropped.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use synapse::storage::{Files, LogFile};

/// A folder of files that live as long as it does.
#[derive(Default)]
pub(crate) struct MemoryFiles(Mutex<BTreeMap<String, Arc<MemoryFile>>>);

pub(crate) struct MemoryFile(Mutex<Vec<u8>>);

impl Files for MemoryFiles {
    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn LogFile>> {
        let file = Arc::new(MemoryFile(Mutex::new(vec![0; length as usize])));
        self.0.lock().expect("no panic holds it").insert(name.into(), Arc::clone(&file));
        Ok(file)
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let found = self.0.lock().expect("no panic holds it").get(name).cloned();
        Ok(found.ok_or(io::ErrorKind::NotFound)?)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().expect("no panic holds it").keys().cloned().collect())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.0.lock().expect("no panic holds it");
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.into(), file);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().expect("no panic holds it").remove(name).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }
    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

impl LogFile for MemoryFile {
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut bytes = self.0.lock().expect("no panic holds it");
        let mut at = offset as usize;
        for part in parts {
            let end = at + part.len();
            if end > bytes.len() {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(part);
            at = end;
        }
        Ok(())
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock().expect("no panic holds it");
        let from = (offset as usize).min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no panic holds it").len() as u64)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.lock().expect("no panic holds it").truncate(length as usize);
        Ok(())
    }
    fn uncache(&self, _: u64, _: u64) {}
}
