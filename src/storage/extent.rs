//! How much log there is, by its files' names and lengths alone.

use super::files::{Files, failed};
use crate::error::Result;
use crate::format::block::FileId;
use crate::format::segment::{SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES};
use crate::types::LogPosition;

/// The extent of a log that may be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogExtent {
    /// The log ends here at the latest: the last file need not be full.
    pub end_max: LogPosition,
    /// Length of the last file in bytes, which tells the length of segments that the log was last opened with.
    pub segment_bytes: u64,
}

impl LogExtent {
    /// The extent of the log in this folder; `None` where there is none.
    pub fn of(files: &dyn Files) -> Result<Option<Self>> {
        let names = files.list().map_err(|error| failed("listing", "the log folder", &error))?;
        let Some(last) = names.iter().filter_map(|name| FileId::parse(name)).filter(|id| !id.is_rewritten()).max()
        else {
            return Ok(None);
        };
        let length = files.open(&last.name()).and_then(|file| file.length());
        let segment_bytes = length.map_err(|error| failed("opening", &last.name(), &error))?;
        let frames = segment_bytes.saturating_sub((SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES) as u64);
        Ok(Some(Self { end_max: LogPosition(last.0 + frames), segment_bytes }))
    }
}
