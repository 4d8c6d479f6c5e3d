//! When everything that no longer exists was last removed from the disk: kept in the name of an empty file of the log's
//! folder, so that it outlives a restart and cannot be torn.

use std::io::ErrorKind;

use super::files::{Files, failed};
use crate::error::Result;

const PREFIX: &str = "erased-";
const CUT_PREFIX: &str = "cut-";
/// The file has no content, but no file can be allocated without any.
const LENGTH: u64 = 1;

/// Whether a file of this name is such a mark.
pub(super) fn is_erased_name(name: &str) -> bool {
    parse(name).is_some()
}

/// Whether a file of this name keeps what a recovery cut off.
pub(super) fn is_cut_name(name: &str) -> bool {
    name.starts_with(CUT_PREFIX)
}

fn parse(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX).filter(|digits| digits.len() == 20)?.parse().ok()
}

/// The engine time in milliseconds of the last mark; `None` where there is none.
pub(crate) fn erased_ms(files: &dyn Files) -> Result<Option<u64>> {
    Ok(names(files)?.iter().filter_map(|name| parse(name)).max())
}

/// Leaves a mark of this engine time, durably, in the place of earlier ones.
pub(crate) fn mark_erased(files: &dyn Files, engine_ms: u64) -> Result<()> {
    let name = format!("{PREFIX}{engine_ms:020}");
    let marked = match files.create(&name, LENGTH) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => files.sync_dir(),
    };
    marked.map_err(|error| failed("writing", &name, &error))?;
    // Not before the new one is durable: the later of two counts.
    remove_where(files, |other| is_erased_name(other) && other != name)
}

/// Removes what recoveries cut off and kept aside.
pub(crate) fn remove_cuts(files: &dyn Files) -> Result<()> {
    remove_where(files, is_cut_name)
}

fn remove_where(files: &dyn Files, goes: impl Fn(&str) -> bool) -> Result<()> {
    let mut any = false;
    for name in names(files)?.iter().filter(|name| goes(name)) {
        files.remove(name).map_err(|error| failed("removing", name, &error))?;
        any = true;
    }
    if any { files.sync_dir().map_err(|error| failed("syncing", "the log folder", &error)) } else { Ok(()) }
}

fn names(files: &dyn Files) -> Result<Vec<String>> {
    files.list().map_err(|error| failed("listing", "the log folder", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim::SimDisk;

    #[test]
    fn the_last_mark_counts_and_is_the_only_one() {
        let disk = SimDisk::new(1, 1 << 20);
        disk.create("cut-00000000000000000001-00000000", 5).unwrap();
        assert_eq!(erased_ms(&disk).unwrap(), None);
        for ms in [7, 7, 900] {
            mark_erased(&disk, ms).unwrap();
            assert_eq!((erased_ms(&disk).unwrap(), disk.files().len()), (Some(ms), 2));
        }
        assert_eq!(erased_ms(&disk.crash()).unwrap(), Some(900), "it is durable");
        remove_cuts(&disk).unwrap();
        assert_eq!(disk.files().len(), 1);
    }
}
