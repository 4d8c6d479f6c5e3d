//! The engine and the model side by side: an operation goes to both, and every answer is compared.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use synapse::clock::{Clock, ManualClock, Now};
use synapse::engine::stepped::Stepped;
use synapse::engine::{Engine, EngineOptions, Session};
use synapse::error::{Error, Reason};
use synapse::faults::Faults;
use synapse::format::segment::StoreId;
use synapse::storage::{Checkpoint, Files, LogOptions, MemoryIndex};
use synapse::types::{EntryId, GroupName, StreamName, StreamSettings};

use crate::disk::MemoryFiles;
use crate::group::{Buried, Group};
use crate::ops::{IndexFate, Op};
use crate::stream::{Letter, Stream};

/// What a step answers: where engine and model differ, how.
pub(crate) type Outcome = Result<(), String>;

pub(crate) struct OpenSession {
    pub(crate) session: Session,
    pub(crate) s: String,
    pub(crate) g: String,
}

pub(crate) struct World {
    pub(crate) streams: BTreeMap<String, Stream>,
    pub(crate) stepped: Option<Stepped>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sessions: [Option<OpenSession>; 4],
    pub(crate) delivery_max: u64,
    files: Arc<MemoryFiles>,
    index: MemoryIndex,
    /// What the index held at an earlier restart.
    old_checkpoint: Option<Checkpoint>,
    folder: std::path::PathBuf,
    faults: Faults,
}

/// Wall time at which every program starts, in milliseconds.
const START_MS: u64 = 1_000_000;
/// Log between two checkpoints: many in each program.
const CHECKPOINT_BYTES: u64 = 50_000;
/// Polls after which a request is taken to wait for what does not come by itself.
const POLLS: usize = 24;
/// Polls after which an answer that must come is missed: a list asks for each of its parts.
const POLLS_MAX: usize = 10_000;

impl World {
    pub(crate) fn new(faults: Faults) -> Self {
        let mut world = Self {
            streams: BTreeMap::new(),
            stepped: None,
            clock: ManualClock::at(START_MS),
            sessions: Default::default(),
            delivery_max: 0,
            files: Arc::default(),
            index: MemoryIndex::default(),
            old_checkpoint: None,
            folder: "/nowhere".into(),
            faults,
        };
        world.open().expect("nothing opens");
        world
    }

    fn open(&mut self) -> Outcome {
        let store = StoreId([7; 16]);
        let mut log_options = LogOptions::new(store);
        log_options.must_exist = self.files.list().is_ok_and(|names| !names.is_empty());
        let options = EngineOptions {
            segment_bytes: 256 << 10,
            checkpoint_bytes: CHECKPOINT_BYTES,
            faults: self.faults,
            ..EngineOptions::new(&self.folder)
        };
        let (files, clock) = (Arc::clone(&self.files) as Arc<dyn Files>, Arc::clone(&self.clock) as Arc<dyn Clock>);
        let mut salt = 1;
        let salts = Box::new(move || {
            salt += 1;
            salt
        });
        let index = Box::new(self.index.clone());
        let stepped = Stepped::open_with(files, log_options, index, options, clock, salts);
        let stepped = stepped.map_err(|e| format!("opening: {e}"))?;
        self.stepped = Some(stepped);
        Ok(())
    }

    pub(crate) fn engine(&self) -> Engine {
        self.stepped.as_ref().expect("it is open").engine().clone()
    }
    pub(crate) fn settle(&mut self) {
        self.stepped.as_mut().expect("it is open").settle();
    }
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Runs a request to its answer; `None` where it would wait, and it is dropped then.
    pub(crate) fn ask<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        self.poll(future, POLLS)
    }

    fn poll<T>(&mut self, future: impl Future<Output = T>, polls: usize) -> Option<T> {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..polls {
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                return Some(value);
            }
            self.settle();
        }
        None
    }

    /// Runs a request that must be answered.
    pub(crate) fn answer<T>(&mut self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Reason> {
        match self.poll(future, POLLS_MAX) {
            Some(answer) => answer.map_err(|e| e.reason()),
            None => panic!("the answer does not come"),
        }
    }

    pub(crate) fn stream(&self, s: &str) -> Result<&Stream, Reason> {
        self.streams.get(s).ok_or(Reason::StreamNotFound)
    }
    pub(crate) fn group(&mut self, s: &str, g: &str) -> Result<&mut Group, Reason> {
        let stream = self.streams.get_mut(s).ok_or(Reason::StreamNotFound)?;
        stream.groups.get_mut(g).ok_or(Reason::GroupNotFound)
    }

    /// Works on a group beside its stream.
    pub(crate) fn with_group<T>(
        &mut self,
        s: &str,
        g: &str,
        work: impl FnOnce(&mut Group, &Stream) -> T,
    ) -> Result<T, Reason> {
        let stream = self.streams.get_mut(s).ok_or(Reason::StreamNotFound)?;
        let mut group = stream.groups.remove(g).ok_or(Reason::GroupNotFound)?;
        let done = work(&mut group, stream);
        stream.groups.insert(g.into(), group);
        Ok(done)
    }

    /// Time has passed: leases end, in the model.
    pub(crate) fn tick(&mut self) -> Outcome {
        let now_ms = self.now().engine_ms;
        let mut buried = Vec::new();
        for (s, stream) in &mut self.streams {
            for (g, group) in &mut stream.groups {
                buried.push((s.clone(), g.clone(), group.tick(now_ms)));
            }
        }
        self.bury(buried)
    }

    /// Entries of groups became dead letters: the engine has put them where they belong, the model checks and follows.
    pub(crate) fn bury(&mut self, buried: Vec<(String, String, Buried)>) -> Outcome {
        let mut wanted: BTreeMap<String, Vec<Letter>> = BTreeMap::new();
        for (s, g, entries) in buried.into_iter().filter(|(.., entries)| !entries.is_empty()) {
            let stream = self.streams.get_mut(&s).expect("its group did it");
            let existing: Vec<_> = entries.into_iter().filter(|(id, ..)| stream.exists(*id)).collect();
            let group = stream.groups.get_mut(&g).expect("it did it");
            group.dead_lettered += existing.len() as u64;
            let target = letters_of(&s, &g, group);
            for (origin_id, deliveries, failures) in existing {
                let letter = Letter { origin_stream: s.clone(), origin_id, group: g.clone(), deliveries, failures };
                wanted.entry(target.clone()).or_default().push(letter);
            }
        }
        wanted.into_iter().try_for_each(|(target, letters)| self.take_letters(&target, letters))
    }

    fn take_letters(&mut self, target: &str, mut letters: Vec<Letter>) -> Outcome {
        let now = self.now();
        let stream = self.streams.entry(target.into()).or_insert_with(|| Stream::new(StreamSettings::default(), now));
        let ids = stream.plan_ids(synapse::types::IdRequest::Auto, letters.len(), now.wall_ms).expect("ids are left");
        let range = synapse::types::IdRange { first: ids[0], last: EntryId::MAX };
        let read = synapse::engine::Read {
            range,
            entries_max: 10_000,
            bytes_max: 1 << 30,
            ..synapse::engine::Read::all(name(target))
        };
        let engine = self.engine();
        let page = self.answer(engine.read(read)).map_err(|e| format!("reading letters of {target}: {e:?}"))?;
        let got: Vec<EntryId> = page.entries.iter().map(|e| e.id).collect();
        same(&format!("ids of letters in {target}"), &got, &ids)?;
        for entry in page.entries {
            let says = origin(&entry).ok_or_else(|| format!("{} in {target} is no letter", entry.id))?;
            let at = letters.iter().position(|l| *l == says);
            letters.remove(at.ok_or_else(|| format!("letter {says:?} in {target} is none of {letters:?}"))?);
            let original = self.streams[&says.origin_stream].get(says.origin_id).expect("buried entries exist").clone();
            let plain = original.letter.map_or(original.content, |(plain, _)| plain);
            let content = crate::stream::Content { bytes: entry.bytes, ..plain.clone() };
            let stream = self.streams.get_mut(target).expect("it was made");
            let engine_ms = now.engine_ms - now.wall_ms.saturating_sub(entry.append_ms);
            let at = Now { wall_ms: entry.append_ms, engine_ms };
            stream.append(entry.id, at, content, Some((plain, says)));
        }
        Ok(())
    }

    pub(crate) fn restart(&mut self, clean: bool, index: IndexFate) -> Outcome {
        if clean {
            self.stepped.as_mut().expect("it is open").stop();
        }
        self.stepped = None;
        self.sessions = Default::default();
        self.meet(index);
        self.open()?;
        let stopped = self.stepped.as_ref().expect("it is open").report().clean;
        if clean {
            same("clean stop", stopped, true)?;
        }
        for group in self.streams.values_mut().flat_map(|s| s.groups.values_mut()) {
            group.restart();
        }
        self.settle();
        self.tick()
    }

    fn meet(&mut self, fate: IndexFate) {
        let kept = self.index.checkpoint();
        match fate {
            IndexFate::Kept => {}
            IndexFate::Lost => self.index.replace(None),
            IndexFate::Old => self.index.replace(self.old_checkpoint.clone()),
            IndexFate::Foreign => {
                self.index.replace(kept.clone().map(|c| Checkpoint { store: StoreId([8; 16]), ..c }));
            }
        }
        self.old_checkpoint = kept;
    }

    /// Lets the engine decide on an operation and dies before anything of it is written.
    pub(crate) fn torn(&mut self, op: &Op) -> Outcome {
        if let Some(mut request) = self.request(op) {
            let _ = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            self.stepped.as_mut().expect("it is open").decide();
        }
        self.restart(false, IndexFate::Kept)
    }

    pub(crate) fn advance(&mut self, ms: u32) -> Outcome {
        self.clock.advance(Duration::from_millis(u64::from(ms)));
        self.settle();
        self.expire();
        self.tick()
    }

    pub(crate) fn set_wall(&mut self, by: i32) {
        self.clock.set_wall(self.now().wall_ms.saturating_add_signed(i64::from(by)));
        self.settle();
        self.expire();
    }

    /// Streams whose time has come go, in the model.
    pub(crate) fn expire(&mut self) {
        let wall_ms = self.now().wall_ms;
        self.streams.retain(|_, stream| stream.expires_ms.is_none_or(|at| at > wall_ms));
    }
}

/// The stream of a group's dead letters.
pub(crate) fn letters_of(s: &str, g: &str, group: &Group) -> String {
    group.settings.dead_letter_stream.as_ref().map_or_else(|| format!("{s}.dlq.{g}"), ToString::to_string)
}

fn origin(entry: &synapse::types::StoredEntry) -> Option<Letter> {
    let field = |name: &str| -> Option<String> {
        match entry.kind {
            synapse::types::EntryKind::Event => {
                synapse::format::event::EventView::parse(&entry.bytes).ok()?.attribute(name).map(str::to_owned)
            }
            synapse::types::EntryKind::Fields => synapse::format::fields::pairs(&entry.bytes)
                .find(|(n, _)| *n == name.as_bytes())
                .map(|(_, v)| String::from_utf8_lossy(v).into_owned()),
        }
    };
    Some(Letter {
        origin_stream: field("synapsedlstream")?,
        origin_id: EntryId::parse(&field("synapsedlid")?).ok()?,
        group: field("synapsedlgroup")?,
        deliveries: field("synapsedldeliveries")?.parse().ok()?,
        failures: field("synapsedlfailures")?.parse().ok()?,
    })
}

/// Refuses what differs.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, engine: T, model: T) -> Outcome {
    if engine == model { Ok(()) } else { Err(format!("{what}: the engine says {engine:?}, the model {model:?}")) }
}

pub(crate) fn name(s: &str) -> StreamName {
    StreamName::parse(s).expect("a valid name")
}
pub(crate) fn group_name(g: &str) -> GroupName {
    GroupName::parse(g).expect("a valid name")
}
