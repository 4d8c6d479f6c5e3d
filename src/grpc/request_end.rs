//! How the messages of a request ended: by the client's word, or by an error.
//!
//! gRPC shows a cancelled call like one whose client has said all it wants to say. Only the body of the request tells
//! them apart; what reads it notes here that it broke off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a request's messages end; goes with the request, among its extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestEnd(Arc<AtomicBool>);

impl RequestEnd {
    /// Notes that the body broke off: a reset, a lost connection, or something that was refused.
    pub(crate) fn note_broken(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the body broke off.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
