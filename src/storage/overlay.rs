//! A folder of files that can be written to without being changed: what is written stays in memory, over what is there.
//!
//! A start writes: it renews marks, cuts tails, writes the last segment anew. Over this it can be tried on a directory that
//! nothing may change.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{Files, LogFile};

/// Files over others, which are only read.
pub(crate) struct Overlay {
    base: Arc<dyn Files>,
    names: Mutex<BTreeMap<String, Arc<Layer>>>,
}

/// A file as the overlay has it.
struct Layer {
    /// Its name below; `None` for one that was made here.
    below: Option<String>,
    written: Mutex<Written>,
}

struct Written {
    length: u64,
    /// What was written, in that order: where, and what.
    parts: Vec<(u64, Vec<u8>)>,
}

impl Overlay {
    /// Over these files as they are now.
    pub(crate) fn new(base: Arc<dyn Files>) -> io::Result<Self> {
        let mut names = BTreeMap::new();
        for name in base.list()? {
            let length = base.open(&name)?.length()?;
            names.insert(name.clone(), Arc::new(Layer::new(Some(name), length)));
        }
        Ok(Self { base, names: Mutex::new(names) })
    }
}

impl Layer {
    fn new(below: Option<String>, length: u64) -> Self {
        Self { below, written: Mutex::new(Written { length, parts: Vec::new() }) }
    }
}

fn missing() -> io::Error {
    io::Error::from(ErrorKind::NotFound)
}

impl Files for Overlay {
    fn create(&self, name: &str, length: u64) -> io::Result<Arc<dyn LogFile>> {
        let mut names = self.names.lock();
        if names.contains_key(name) {
            return Err(io::Error::from(ErrorKind::AlreadyExists));
        }
        let layer = Arc::new(Layer::new(None, length));
        names.insert(name.into(), Arc::clone(&layer));
        Ok(Arc::new(Layered { below: None, layer }))
    }
    fn open(&self, name: &str) -> io::Result<Arc<dyn LogFile>> {
        let layer = self.names.lock().get(name).map(Arc::clone).ok_or_else(missing)?;
        let below = layer.below.as_ref().map(|below| self.base.open(below)).transpose()?;
        Ok(Arc::new(Layered { below, layer }))
    }
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().keys().cloned().collect())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut names = self.names.lock();
        let layer = names.remove(from).ok_or_else(missing)?;
        names.insert(to.into(), layer);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.names.lock().remove(name).map(drop).ok_or_else(missing)
    }
    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }
}

/// An open file of an overlay.
struct Layered {
    below: Option<Arc<dyn LogFile>>,
    layer: Arc<Layer>,
}

impl LogFile for Layered {
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let bytes = parts.concat();
        let mut written = self.layer.written.lock();
        written.length = written.length.max(offset + bytes.len() as u64);
        written.parts.push((offset, bytes));
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let written = self.layer.written.lock();
        let want = written.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..want];
        let read = self.below.as_ref().map_or(Ok(0), |below| below.read_at(buffer, offset))?;
        buffer[read..].fill(0);
        let end = offset + want as u64;
        for (at, bytes) in &written.parts {
            let (from, to) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                let part = &bytes[(from - at) as usize..(to - at) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(want)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.layer.written.lock().length)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.layer.written.lock().length = length;
        Ok(())
    }
    fn uncache(&self, _: u64, _: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim::SimDisk;

    #[test]
    fn what_is_written_is_read_and_nothing_below_changes() {
        let disk = SimDisk::new(1, 1 << 20);
        disk.create("a", 100).unwrap().write_at(&[&[1; 100]], 0).unwrap();
        let before = disk.files();
        let over = Overlay::new(Arc::new(disk.clone())).unwrap();
        let read = |name: &str, offset| {
            let mut buffer = [9; 8];
            let read = over.open(name).unwrap().read_at(&mut buffer, offset).unwrap();
            buffer[..read].to_vec()
        };
        over.open("a").unwrap().write_at(&[&[2; 3], &[3; 2]], 10).unwrap();
        assert_eq!((read("a", 8), read("a", 98)), (vec![1, 1, 2, 2, 2, 3, 3, 1], vec![1, 1]));
        over.create("b", 12).unwrap().write_at(&[&[4]], 5).unwrap();
        assert_eq!(read("b", 4), [0, 4, 0, 0, 0, 0, 0, 0]);
        over.rename("b", "a").unwrap();
        assert_eq!((over.list().unwrap(), read("a", 4)[1]), (vec!["a".to_owned()], 4));
        over.remove("a").unwrap();
        assert!(over.open("a").is_err());
        assert_eq!(disk.files(), before);
    }
}
