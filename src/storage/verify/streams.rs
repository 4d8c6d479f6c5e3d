//! What the log has told of each stream so far: that ids rise and no entry is missing between two blocks.

use std::collections::BTreeMap;

use crate::format::block::BlockRef;
use crate::format::record::Effect;
use crate::types::{EntryId, StreamName, StreamNumber};

/// The streams as far as the walk has come.
#[derive(Default)]
pub(super) struct Streams {
    by_number: BTreeMap<StreamNumber, Stream>,
    /// Something before here could not be read, so that a stream may have been made, or have grown, in it.
    has_gaps: bool,
}

#[derive(Default)]
struct Stream {
    name: Option<StreamName>,
    is_deleted: bool,
    last: EntryId,
    /// Entries so far; unknown after a gap.
    appended: Option<u64>,
}

impl Streams {
    /// The name of a stream, where the log told it.
    pub(super) fn name(&self, number: StreamNumber) -> Option<StreamName> {
        self.by_number.get(&number)?.name.clone()
    }

    /// Notes the name of a stream that was made before what the log still has.
    pub(super) fn name_is(&mut self, number: StreamNumber, name: StreamName) {
        self.by_number.entry(number).or_default().name = Some(name);
    }

    /// Notes that something could not be read.
    pub(super) fn lose_track(&mut self) {
        self.has_gaps = true;
        self.by_number.values_mut().for_each(|stream| stream.appended = None);
    }

    /// Notes what an effect says of streams.
    pub(super) fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::StreamCreated(made) => {
                let name = Some(made.name.clone());
                self.by_number.insert(made.stream, Stream { name, appended: Some(0), ..Stream::default() });
            }
            Effect::StreamDeleted(gone) => self.by_number.entry(gone.stream).or_default().is_deleted = true,
            _ => {}
        }
    }

    /// What is wrong with this block coming next, going by its description.
    pub(super) fn next_block(&mut self, block: &BlockRef) -> Option<String> {
        let is_unknown = !self.has_gaps && !self.by_number.contains_key(&block.stream);
        let stream = self.by_number.entry(block.stream).or_default();
        let wrong = if is_unknown {
            Some("a block of a stream that was never made".into())
        } else if stream.is_deleted {
            Some("a block of a stream that was deleted before".into())
        } else if block.first <= stream.last && stream.last != EntryId::ZERO {
            Some(format!("its ids do not rise: {} came before", stream.last))
        } else {
            let expected = stream.appended.filter(|appended| *appended != block.first_ordinal);
            expected.map(|n| format!("it begins with entry number {} of the stream, not {n}", block.first_ordinal))
        };
        stream.last = stream.last.max(block.last);
        stream.appended = Some(block.first_ordinal + u64::from(block.count));
        wrong
    }
}
