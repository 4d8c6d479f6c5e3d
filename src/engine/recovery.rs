//! Recovery: the log's frames, replayed in order, are the state. Replay decides nothing; it applies effects.
//!
//! A frame or effect that contradicts the state before it means that the log is not what we wrote: `CORRUPT`.

use std::sync::Arc;

use bytes::Bytes;

use super::core::Core;
use super::view::StreamView;
use crate::error::{Error, Reason, Result};
use crate::faults::Fault;
use crate::format::block::{BlockRef, BlockView};
use crate::format::frame::KIND_ENTRIES;
use crate::format::record::{Delivered, Effect};
use crate::group::Group;
use crate::storage::{Recovered, RecoveredFrame};
use crate::stream::Stream;
use crate::types::{GroupNumber, StreamNumber};

/// Applies what recovery hands on.
pub(crate) fn replay(core: &mut Core, recovered: &Recovered<'_>) -> Result<()> {
    match recovered {
        Recovered::Frame(frame) => replay_frame(core, frame),
        Recovered::Known(block) => {
            // Of a stream that is gone since, nothing is shown.
            if let Some(slot) = core.streams.get(&block.stream) {
                slot.view.show_known(**block);
            }
            Ok(())
        }
        Recovered::Sealed(sealed) => {
            core.shared.catalogue.seal(sealed);
            Ok(())
        }
    }
}

fn replay_frame(core: &mut Core, frame: &RecoveredFrame) -> Result<()> {
    for record in &frame.records {
        let applied = match (&record.block, record.kind) {
            (Some(block), KIND_ENTRIES) => replay_block(core, block, &record.content),
            _ => Effect::decode(record.kind, record.version, &record.content).and_then(|e| replay_effect(core, e)),
        };
        applied.map_err(|e| {
            let at = frame.position;
            Error::new(Reason::Corrupt, format!("the commit at position {at} cannot be replayed: {}", e.message()))
                .with("position", at)
        })?;
    }
    Ok(())
}

fn replay_block(core: &mut Core, block: &BlockRef, content: &Bytes) -> Result<()> {
    // A stream deleted by an earlier record of the same frame has no more entries: they come before it.
    let slot = core.streams.get_mut(&block.stream).ok_or_else(|| unknown_stream(block.stream))?;
    if block.first_ordinal != slot.stream.appended || block.first <= slot.stream.last {
        return Err(Error::new(Reason::Corrupt, format!("entries of stream {} are out of order", slot.stream.name)));
    }
    slot.stream.apply_block(block.last, block.count, u64::from(block.bytes));
    if let Ok(view) = BlockView::new(content.clone(), block) {
        for entry in view.entries() {
            slot.stream.count_in_node(entry.id, entry.bytes.len() as u32, entry.node_start);
        }
    }
    slot.visible = block.last;
    slot.view.show(*block);
    Ok(())
}

fn replay_effect(core: &mut Core, effect: Effect) -> Result<()> {
    match effect {
        Effect::StreamCreated(e) => {
            let view = StreamView::new(e.name.clone(), e.stream);
            core.shared.catalogue.insert(Arc::clone(&view));
            core.add_stream(Stream::create(&e), view);
        }
        Effect::StreamDeleted(e) => {
            let slot = core.forget_stream(e.stream).ok_or_else(|| unknown_stream(e.stream))?;
            core.shared.catalogue.remove(&slot.view);
            slot.view.end(core.shared.catalogue.files());
        }
        Effect::StreamUpdated(e) => stream(core, e.stream)?.settings = e.settings,
        Effect::StreamRenamed(e) => {
            let view = core.rename_in_maps(e.stream, &e.name).ok_or_else(|| unknown_stream(e.stream))?;
            core.shared.catalogue.rename(&view, e.name);
        }
        Effect::LastIdSet(e) => {
            stream(core, e.stream)?.apply_last_id(&e);
            core.streams[&e.stream].view.reach(e.last);
        }
        Effect::ExpirySet(e) => {
            if !core.apply_expiry(e.stream, e.at) {
                return Err(unknown_stream(e.stream));
            }
        }
        Effect::Trimmed(e) => {
            stream(core, e.stream)?.apply_trim(&e);
            core.streams[&e.stream].view.trim(core.shared.catalogue.files(), e.before);
        }
        Effect::EntriesDeleted(e) => {
            stream(core, e.stream)?.apply_deleted(&e);
            core.streams[&e.stream].view.delete(e.entries.iter().map(|d| (d.id, d.bytes)));
        }
        Effect::RequestRemembered(e) => stream(core, e.stream)?.apply_request(&e),
        Effect::EventIdsRemembered(e) => stream(core, e.stream)?.apply_event_ids(&e),
        Effect::RequestNamed(e) => stream(core, e.stream)?.apply_named(&e),
        Effect::OnceRemembered(e) => stream(core, e.stream)?.once.remember(&e),
        Effect::OnceConfigured(e) => stream(core, e.stream)?.once.configure(&e),
        Effect::GroupCreated(e) => {
            stream(core, e.stream)?;
            core.add_group(Group::create(&e));
        }
        Effect::GroupDeleted(e) => {
            group(core, e.group)?;
            core.forget_group(e.group);
        }
        Effect::GroupUpdated(e) => group(core, e.group)?.apply_settings(e.settings, e.at_ms),
        Effect::CursorMoved(e) => group(core, e.group)?.apply_cursor(&e),
        Effect::ConsumerAdded(e) => group(core, e.group)?.apply_consumer_added(&e),
        Effect::ConsumerRemoved(e) => group(core, e.group)?.apply_consumer_removed(&e),
        Effect::Delivered(e) => replay_delivered(core, e)?,
        Effect::Settled(e) => group(core, e.group)?.apply_settled(&e),
        Effect::Returned(e) => group(core, e.group)?.apply_returned(&e),
        Effect::Extended(e) => group(core, e.group)?.apply_extended(&e),
        Effect::Claimed(e) => {
            core.next_delivery = core.next_delivery.max(e.delivery.0 + 1);
            group(core, e.group)?.apply_claimed(&e);
        }
        Effect::Released(e) => {
            core.next_delivery = core.next_delivery.max(e.delivery.0 + e.entries.len() as u64);
            group(core, e.group)?.apply_released(&e);
        }
        Effect::ReadsCounted(e) => group(core, e.group)?.reads_offset = e.offset,
        Effect::Ungranted(e) => group(core, e.group)?.apply_ungranted(&e),
        Effect::Revived(e) => group(core, e.group)?.apply_revived(&e),
        Effect::FilesReplaced(e) => core.apply_files_replaced(&e),
        Effect::ClockNoted(e) => core.engine_clock = Some(e.clock),
    }
    Ok(())
}

fn replay_delivered(core: &mut Core, mut delivered: Delivered) -> Result<()> {
    let faults = core.shared.options.faults;
    if faults.has(Fault::ReplayByTheClock) {
        delivered.at_ms = core.shared.clock.now().engine_ms;
    }
    core.next_delivery = core.next_delivery.max(delivered.delivery.0 + 1);
    let group = group(core, delivered.group)?;
    group.apply_delivered(&delivered);
    if faults.has(Fault::CountDeliveriesTwice) {
        group.apply_delivered(&delivered);
    }
    Ok(())
}

fn stream(core: &mut Core, number: StreamNumber) -> Result<&mut Stream> {
    core.streams.get_mut(&number).map(|slot| &mut slot.stream).ok_or_else(|| unknown_stream(number))
}

fn group(core: &mut Core, number: GroupNumber) -> Result<&mut Group> {
    let found = core.groups.get_mut(&number).map(|slot| &mut slot.group);
    found.ok_or_else(|| Error::new(Reason::Corrupt, format!("there is no group number {}", number.0)))
}

fn unknown_stream(number: StreamNumber) -> Error {
    Error::new(Reason::Corrupt, format!("there is no stream number {}", number.0))
}
