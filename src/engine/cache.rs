//! Blocks kept in memory for readers: what was written last, and what was read last. Bounded in bytes.
//!
//! First in, first out: a tail reads what was just written, a catching-up reader reads on; neither profits from
//! anything cleverer. A block is in the cache only as it was verified or written.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::format::block::{BlockRef, FileId};

type Key = (FileId, u32);

/// The cache of one engine.
#[derive(Debug)]
pub(crate) struct BlockCache {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<Key, Bytes>,
    order: VecDeque<Key>,
    bytes: usize,
}

/// What a block costs beside its bytes: its places in the map and in the order.
const OVERHEAD_BYTES: usize = 96;

impl BlockCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    pub(crate) fn get(&self, block: &BlockRef) -> Option<Bytes> {
        self.state.lock().blocks.get(&(block.file, block.offset)).cloned()
    }

    pub(crate) fn insert(&self, block: &BlockRef, content: Bytes) {
        let size = content.len() + OVERHEAD_BYTES;
        if size > self.bytes_max {
            return;
        }
        let mut state = self.state.lock();
        if state.blocks.insert((block.file, block.offset), content).is_some() {
            return;
        }
        state.order.push_back((block.file, block.offset));
        state.bytes += size;
        while state.bytes > self.bytes_max {
            let Some(oldest) = state.order.pop_front() else { break };
            if let Some(content) = state.blocks.remove(&oldest) {
                state.bytes -= content.len() + OVERHEAD_BYTES;
            }
        }
    }
}
