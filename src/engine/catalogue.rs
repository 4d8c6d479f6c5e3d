//! The streams that exist, durably, and how what a commit did comes to be seen.
//!
//! Invariant **T2**: a commit with a transaction in it is shown with all the views locked that it changes.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use event_listener::Event;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use super::commit::Show;
use super::sealed::{Replacement, SealedFiles};
use super::view::{StreamView, ViewState};
use crate::format::block::{BlockRef, FileSpan};
use crate::storage::SealedSegment;
use crate::types::{StreamName, StreamNumber};

/// The streams that exist, durably, by name, and the sealed files that hold their entries.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    streams: RwLock<Streams>,
    files: Arc<SealedFiles>,
}

#[derive(Debug, Default)]
struct Streams {
    by_name: BTreeMap<StreamName, Arc<StreamView>>,
    by_number: HashMap<StreamNumber, Arc<StreamView>>,
    /// Names that somebody waits for, how many do, and what wakes them.
    awaited: Mutex<HashMap<StreamName, (usize, Arc<Event>)>>,
}

impl Streams {
    fn insert(&mut self, view: Arc<StreamView>) {
        self.by_number.insert(view.number, Arc::clone(&view));
        if let Some((_, event)) = self.awaited.get_mut().get(&view.name()) {
            event.notify(usize::MAX);
        }
        self.by_name.insert(view.name(), view);
    }

    fn remove(&mut self, view: &StreamView) {
        self.by_number.remove(&view.number);
        let name = view.name();
        if self.by_name.get(&name).is_some_and(|v| v.number == view.number) {
            self.by_name.remove(&name);
        }
    }

    fn rename(&mut self, view: &Arc<StreamView>, to: StreamName) {
        self.remove(view);
        view.rename(to);
        self.insert(Arc::clone(view));
    }
}

fn by_number(view: &Arc<StreamView>) -> (StreamNumber, Arc<StreamView>) {
    (view.number, Arc::clone(view))
}

impl Catalogue {
    pub(crate) fn get(&self, name: &StreamName) -> Option<Arc<StreamView>> {
        self.streams.read().by_name.get(name).cloned()
    }
    /// Wakes everybody who listens to a stream: the engine stops.
    pub(crate) fn wake_all(&self) {
        let streams = self.streams.read();
        streams.by_number.values().for_each(|view| view.wake());
        for (_, event) in streams.awaited.lock().values() {
            event.notify(usize::MAX);
        }
    }
    /// What wakes whoever waits for a stream of that name, until [`Self::forgo`].
    pub(crate) fn await_name(&self, name: &StreamName) -> Arc<Event> {
        let streams = self.streams.read();
        let mut awaited = streams.awaited.lock();
        let (waiting, event) = awaited.entry(name.clone()).or_default();
        *waiting += 1;
        Arc::clone(event)
    }
    /// One waits no longer for a stream of that name.
    pub(crate) fn forgo(&self, name: &StreamName) {
        let streams = self.streams.read();
        let mut awaited = streams.awaited.lock();
        if let Some((waiting, _)) = awaited.get_mut(name) {
            *waiting -= 1;
            if *waiting == 0 {
                awaited.remove(name);
            }
        }
    }
    /// The sealed files that views name.
    pub(crate) fn files(&self) -> &Arc<SealedFiles> {
        &self.files
    }
    /// Replaces the blocks of a sealed segment by spans, in the views of the streams that still exist.
    pub(crate) fn seal(&self, sealed: &SealedSegment) {
        let number = self.files.number(sealed.file);
        let streams = self.streams.read();
        let (mut taken, mut bytes) = (0, 0);
        for span in &sealed.spans {
            if streams.by_number.get(&span.stream).is_some_and(|view| view.seal(number, span)) {
                taken += 1;
                bytes += span.bytes;
            }
        }
        self.files.took(number, taken, bytes);
        self.files.settle(number, sealed);
    }
    /// Shows rewritten files in the place of others, and forgets those.
    pub(crate) fn replace(&self, replacement: &Replacement) {
        let Replacement { old, new, streams } = replacement;
        let mut of_stream: HashMap<StreamNumber, Vec<FileSpan>> = HashMap::new();
        for file in new {
            file.spans.iter().for_each(|span| of_stream.entry(span.stream).or_default().push(*span));
        }
        let known = self.streams.read();
        for view in streams.iter().filter_map(|stream| known.by_number.get(stream)) {
            view.replace(&self.files, old, of_stream.get(&view.number).map_or(&[], Vec::as_slice));
        }
        drop(known);
        for file in new {
            self.files.settle(self.files.number(file.file), file);
        }
        self.files.note_replaced();
        for file in old {
            self.files.forget(*file);
        }
    }
    pub(crate) fn by_number(&self, number: StreamNumber) -> Option<Arc<StreamView>> {
        self.streams.read().by_number.get(&number).cloned()
    }
    /// All streams.
    pub(crate) fn all(&self) -> Vec<Arc<StreamView>> {
        self.streams.read().by_number.values().cloned().collect()
    }
    /// Shows what a commit did, all at once: whoever sees some of it sees all of it.
    pub(crate) fn show_together(&self, blocks: &[(BlockRef, Arc<StreamView>)], shows: Vec<Show>) {
        let views: BTreeMap<StreamNumber, Arc<StreamView>> =
            blocks.iter().map(|(_, view)| view).chain(shows.iter().filter_map(Show::view)).map(by_number).collect();
        let mut streams = self.streams.write();
        let mut states: BTreeMap<StreamNumber, RwLockWriteGuard<'_, ViewState>> =
            views.iter().map(|(number, view)| (*number, view.write())).collect();
        for (block, view) in blocks {
            states.entry(view.number).and_modify(|state| state.show(*block));
        }
        let mut replacements = Vec::new();
        for show in shows {
            match &show {
                Show::Created(view) => streams.insert(Arc::clone(view)),
                Show::Deleted(view) => streams.remove(view),
                Show::Renamed(view, to) => streams.rename(view, to.clone()),
                _ => {}
            }
            if let Some(state) = show.view().and_then(|view| states.get_mut(&view.number)) {
                state.apply(&self.files, &show);
            }
            if let Show::FilesReplaced(replacement) = show {
                replacements.push(replacement);
            }
        }
        drop((states, streams));
        // They change where entries are, not which there are.
        replacements.iter().for_each(|replacement| self.replace(replacement));
        views.values().for_each(|view| view.wake());
    }
    /// The numbers of all streams.
    pub(crate) fn numbers(&self) -> Vec<StreamNumber> {
        self.streams.read().by_number.keys().copied().collect()
    }
    pub(crate) fn insert(&self, view: Arc<StreamView>) {
        self.streams.write().insert(view);
    }
    /// Gives a stream another name; whichever had it is not found by it any more.
    pub(crate) fn rename(&self, view: &Arc<StreamView>, to: StreamName) {
        self.streams.write().rename(view, to);
    }
    /// Removes this very stream, not another of its name.
    pub(crate) fn remove(&self, view: &StreamView) {
        self.streams.write().remove(view);
    }
    /// Names in order, after a name, with a prefix.
    pub(crate) fn names(&self, prefix: &str, after: Option<&StreamName>, max: usize) -> Vec<StreamName> {
        let streams = self.streams.read();
        streams
            .by_name
            .range(names_from(prefix, after))
            .map(|(name, _)| name)
            .take_while(|name| name.as_str().starts_with(prefix))
            .take(max)
            .cloned()
            .collect()
    }
    pub(crate) fn len(&self) -> usize {
        self.streams.read().by_name.len()
    }
}

/// Where names begin that come after a name and start with a prefix.
pub(super) fn names_from(prefix: &str, after: Option<&StreamName>) -> (Bound<StreamName>, Bound<StreamName>) {
    let start = match after {
        Some(after) if after.as_str() >= prefix => Bound::Excluded(after.clone()),
        _ => match StreamName::parse(prefix) {
            Ok(prefix) => Bound::Included(prefix),
            Err(_) => Bound::Unbounded,
        },
    };
    (start, Bound::Unbounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::engine::view::Place;
    use crate::storage::FileId;
    use crate::types::{EntryId, LogPosition};

    const STREAM: StreamNumber = StreamNumber(1);

    fn span(file: u64, first: u64, last: u64) -> FileSpan {
        let (first_ordinal, count, bytes) = (first, last + 1 - first, (last + 1 - first) * 10);
        let (first, last) = (EntryId::new(first, 0), EntryId::new(last, 0));
        FileSpan { file: FileId(file), stream: STREAM, first, last, first_ordinal, count, bytes }
    }

    fn sealed(file: u64, spans: Vec<FileSpan>) -> SealedSegment {
        let (from, end) = (LogPosition(file), LogPosition(file + 1));
        SealedSegment { file: FileId(file), from, end, length: 100, spans }
    }

    fn seal(catalogue: &Catalogue, file: u64, spans: Vec<FileSpan>) {
        catalogue.seal(&sealed(file, spans));
    }

    fn place(found: Option<Place>) -> Option<(u64, Option<u64>)> {
        match found {
            Some(Place::File(place)) => Some((place.file.0, place.before.map(|id| id.ms))),
            _ => None,
        }
    }

    #[test]
    fn sealed_files_are_found_from_both_sides_replaced_and_dropped() {
        let catalogue = Catalogue::default();
        let view = StreamView::new(StreamName::parse("s").unwrap(), STREAM);
        catalogue.insert(Arc::clone(&view));
        let files = catalogue.files();
        for (file, first, last) in [(8, 10, 19), (16, 20, 29), (24, 40, 49)] {
            let gone = FileSpan { stream: StreamNumber(7), ..span(file, 1, 2) };
            seal(&catalogue, file, vec![span(file, first, last), gone]);
        }
        let id = |ms| EntryId::new(ms, 0);
        assert_eq!(place(view.place_after(files, id(15))), Some((8, None)));
        assert_eq!(place(view.place_after(files, id(30))), Some((24, Some(29))));
        assert_eq!(place(view.place_after(files, id(50))), None);
        assert_eq!(place(view.place_before(files, id(60))), Some((24, Some(29))));
        assert_eq!(place(view.place_before(files, id(30))), Some((24, Some(29))), "which begins above");
        assert_eq!(place(view.place_before(files, id(29))), Some((16, Some(19))));

        let known =
            |file| files.uses().into_iter().find(|known| known.file == FileId(file)).map(|u| (u.streams, u.bytes));
        assert_eq!((known(8), known(24)), (Some((1, 100)), Some((1, 100))));
        let new = vec![sealed(99, vec![span(99, 15, 29)])];
        let (old, streams) = (vec![FileId(8), FileId(16)], vec![STREAM, StreamNumber(7)]);
        catalogue.replace(&Replacement { old, new, streams });
        assert_eq!((known(8), known(16), known(99)), (None, None, Some((1, 150))));
        assert_eq!(place(view.place_after(files, id(1))), Some((99, None)));
        assert_eq!(place(view.place_before(files, id(60))), Some((24, Some(29))));

        view.trim(files, id(30));
        assert_eq!((known(99), place(view.place_after(files, id(1)))), (Some((0, 0)), Some((24, None))));
        assert!(files.forget(FileId(99)) && !files.forget(FileId(24)));
        view.end(files);
        assert_eq!(known(24), Some((0, 0)));
        assert_eq!(files.uses().iter().find(|u| u.file == FileId(24)).map(|u| u.bytes_held), Some(120));
    }
}
