//! Settings of the log.

use crate::error::{Error, Result};
use crate::faults::Faults;
use crate::format::segment::{SEGMENT_FOOTER_BYTES, SEGMENT_HEADER_BYTES, StoreId};
use crate::limits;

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Whose log it is; files of another are refused.
    pub store: StoreId,
    /// Length of a live segment in bytes.
    pub segment_bytes: u64,
    /// Whether the log must have files: a store that once had some and has none has lost them.
    pub must_exist: bool,
    /// What goes wrong on purpose; nothing outside tests.
    pub faults: Faults,
}

impl LogOptions {
    /// The defaults for a store that has no log yet.
    pub fn new(store: StoreId) -> Self {
        Self { store, segment_bytes: limits::SEGMENT_BYTES_DEFAULT, must_exist: false, faults: Faults::default() }
    }

    /// Whether the values are allowed.
    pub fn validate(&self) -> Result<()> {
        let (min, max) = (limits::SEGMENT_BYTES_MIN, limits::SEGMENT_BYTES_MAX);
        if !(min..=max).contains(&self.segment_bytes) {
            return Err(Error::invalid("segment_bytes", format!("from {min} to {max}")));
        }
        Ok(())
    }

    /// Bytes of a segment that frames and their index can fill.
    pub fn capacity(&self) -> u64 {
        self.segment_bytes - (SEGMENT_HEADER_BYTES + SEGMENT_FOOTER_BYTES) as u64
    }
}
