//! What a start found, as log lines: nothing that was cut, damaged or left over goes unsaid.

use crate::engine::Engine;
use crate::storage::RecoveryReport;

/// Damaged blocks that get a line of their own; `synapse verify` tells of all.
const DAMAGED_TOLD_MAX: usize = 20;

/// Tells what the engine found when it was opened.
pub(super) fn tell(engine: &Engine) {
    let RecoveryReport { end, clean, segments, frames, cut, damaged, damaged_count, damaged_indexes, .. } =
        engine.recovery();
    let from = engine.resumed_from().unwrap_or_default();
    tracing::info!(%end, clean, segments, replayed_from = %from, replayed_commits = frames, "opened the data directory");
    if let Some(cut) = cut {
        let (file, kept_as) = (cut.file.name(), cut.kept_as.as_deref().unwrap_or("nothing: there is no room"));
        tracing::warn!(file, cut.offset, cut.bytes, kept_as, "cut off an unfinished end of the log");
    }
    for block in damaged.iter().take(DAMAGED_TOLD_MAX) {
        let (file, stream) = (block.file.name(), block.stream.0);
        let (first, last) = (block.first, block.last);
        tracing::warn!(file, block.offset, stream, %first, %last, block.count, "events are damaged and cannot be read");
    }
    if *damaged_count > DAMAGED_TOLD_MAX as u64 {
        tracing::warn!(blocks = damaged_count, "more is damaged: `synapse verify` tells of all of it");
    }
    for file in damaged_indexes {
        tracing::warn!(file = file.name(), "the index of a log file is damaged; its frames were read instead");
    }
    for file in &engine.recovery().unknown_files {
        tracing::warn!(file, "a file in the log folder is not the log's; it is left alone");
    }
}
