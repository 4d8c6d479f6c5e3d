//! Settings of the log, and the faults that tests plant in it.

use crate::error::{Error, Result};
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

/// Promises that a test breaks on purpose, to see that it is caught. Without the `testing` feature there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// `sync` answers without syncing.
    #[cfg(any(test, feature = "testing"))]
    pub skip_sync: bool,
    /// Contents are not checked against their checksums.
    #[cfg(any(test, feature = "testing"))]
    pub skip_checksum: bool,
    /// The first bad frame is taken for the end of the log, whatever comes after it.
    #[cfg(any(test, feature = "testing"))]
    pub cut_at_first_bad_frame: bool,
    /// Names are not made durable.
    #[cfg(any(test, feature = "testing"))]
    pub forget_dir_sync: bool,
}

macro_rules! fault {
    ($($name:ident),*) => {
        impl Faults {
            $(pub(super) fn $name(self) -> bool {
                #[cfg(any(test, feature = "testing"))]
                return self.$name;
                #[cfg(not(any(test, feature = "testing")))]
                false
            })*
        }
    };
}

fault!(skip_sync, skip_checksum, cut_at_first_bad_frame, forget_dir_sync);
