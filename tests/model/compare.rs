//! The states side by side: everything that can be asked of a stream or a group.

use std::collections::BTreeSet;
use std::time::Duration;

use synapse::engine::{ListPending, OnceSettings, PendingInfo, Read};
use synapse::error::Reason;
use synapse::types::{EntryId, IdRange};

use crate::stream::stored;
use crate::world::{Outcome, World, group_name, letters_of, name, same};

impl World {
    pub(crate) fn compare_stream(&mut self, s: &str) -> Outcome {
        let engine = self.engine();
        let got = self.answer(engine.stream(&name(s)));
        let got = got.map(|i| {
            let groups: Vec<String> = i.groups.iter().map(ToString::to_string).collect();
            let settings = (i.settings, i.expires_ms);
            (i.length, i.bytes, i.first, i.last, i.appended, i.deleted_max, i.created_ms, groups, settings)
        });
        let want = self.stream(s).map(|m| {
            let bytes = m.existing().map(|e| e.content.bytes.len() as u64).sum::<u64>();
            let first = m.existing().next().map(|e| e.id);
            let groups: Vec<String> = m.groups.keys().cloned().collect();
            let settings = (m.settings.clone(), m.expires_ms);
            let (length, appended) = (m.existing().count() as u64, m.entries.len() as u64);
            (length, bytes, first, m.last(), appended, m.deleted_max, m.created_ms, groups, settings)
        });
        same(&format!("stream {s}"), got, want)?;
        self.compare_once(s)
    }

    /// What is remembered of requests that have names.
    pub(crate) fn compare_once(&mut self, s: &str) -> Outcome {
        let Some(stream) = self.streams.get(s) else { return Ok(()) };
        let known: Vec<_> = stream.once.known(self.now().wall_ms).collect();
        let producers = known.iter().map(|known| known.0).collect::<BTreeSet<_>>().len() as u64;
        let settings = OnceSettings { window_s: stream.once.window_s, names_max: stream.once.names_max };
        let want = (settings, producers, known.len() as u64);
        let engine = self.engine();
        // Without anything to tell it tells nothing.
        let got = self.answer(engine.once_info(&name(s))).map(|info| {
            info.map_or((OnceSettings::default(), 0, 0), |info| (info.settings, info.producers, info.names))
        });
        same(&format!("names of requests of {s}"), got, Ok(want))
    }

    pub(crate) fn compare_group(&mut self, s: &str, g: &str) -> Outcome {
        let engine = self.engine();
        let got = self.answer(engine.group(&name(s), &group_name(g)));
        let now_ms = self.now().engine_ms;
        let Ok(info) = got else {
            let missing: Result<(), Reason> = self.group(s, g).map(drop);
            return same(&format!("group {g} of {s}"), got.map(drop), missing);
        };
        // Where an entry was deleted before it was looked at, the cursor may stand on either side of it.
        let (cursor, undelivered) = self
            .with_group(s, g, |group, stream| {
                let (low, high) = (group.cursor.min(info.cursor), group.cursor.max(info.cursor));
                if stream.after(low).next().is_none_or(|e| e.id > high) {
                    group.cursor = info.cursor;
                }
                (group.cursor, stream.after(group.cursor).count() as u64)
            })
            .map_err(|e| format!("the engine has a group {g} of {s}, the model says {e:?}"))?;
        let oldest = self.with_group(s, g, |group, stream| {
            let pending = group.pending.keys().find_map(|id| stream.get(*id));
            let oldest = pending.into_iter().chain(stream.after(group.cursor).next()).min_by_key(|e| e.id);
            oldest.map(|e| e.at.wall_ms)
        });
        let skipped = self.with_group(s, g, |group, stream| group.skipped_by(stream)).expect("it was just there");
        let skipped = info.skipped_by_trim.clamp(skipped.0, skipped.1);
        let group = self.group(s, g).expect("it was just there");
        let waiting = group.pending.values().filter(|p| p.held.is_none()).count() as u64;
        let pending = group.pending.len() as u64;
        let released = group.pending.values().filter(|p| p.released > 0).count() as u64;
        same(&format!("released of {g} of {s}"), info.released, released)?;
        let at = format!("group {g} of {s}: cursor, undelivered, pending, waiting, skipped, acknowledged, buried");
        same(
            &at,
            (
                info.cursor,
                info.undelivered,
                info.pending,
                info.waiting,
                info.skipped_by_trim,
                info.acknowledged,
                info.dead_lettered,
            ),
            (cursor, undelivered, pending, waiting, skipped, group.acknowledged, group.dead_lettered),
        )?;
        same(&format!("oldest unacknowledged of {g} of {s}"), Ok(info.oldest_unacknowledged_ms), oldest)?;
        let group = self.group(s, g).expect("it was just there");
        let mut settings = group.settings.clone();
        settings.dead_letter_stream = Some(name(&letters_of(s, g, group)));
        same("settings", &info.settings, &settings)?;
        let consumers: Vec<_> = info
            .consumers
            .iter()
            .map(|c| (c.name.to_string(), c.pending, c.idle_ms, c.inactive_ms, c.active, c.sessions))
            .collect();
        let want: Vec<_> = group
            .consumers
            .iter()
            .map(|(c, known)| {
                let held = group.held_by(|(consumer, _)| consumer == c).len() as u64;
                let sessions = group.sessions.values().filter(|consumer| *consumer == c).count() as u32;
                let inactive = known.active_ms.map(|at| now_ms - at);
                (c.clone(), held, now_ms - known.seen_ms, inactive, group.active.as_ref() == Some(c), sessions)
            })
            .collect();
        same(&format!("consumers of {g} of {s}"), consumers, want)?;
        self.compare_pending(s, g)
    }

    fn compare_pending(&mut self, s: &str, g: &str) -> Outcome {
        let request = ListPending {
            stream: name(s),
            group: group_name(g),
            range: IdRange::ALL,
            entries_max: 10_000,
            consumer: None,
            idle_min: Duration::ZERO,
        };
        let engine = self.engine();
        let got = self.answer(engine.list_pending(request));
        let now_ms = self.now().engine_ms;
        let want = self.group(s, g).map(|group| {
            let info = |(id, p): (&EntryId, &crate::group::Pending)| PendingInfo {
                id: *id,
                consumer: p.held.as_ref().map(|(c, _)| synapse::types::ConsumerName::parse(c).expect("a valid name")),
                idle_ms: now_ms - p.delivered_ms,
                due_ms: (p.due_ms != 0 && p.due_ms != u64::MAX).then(|| p.due_ms.saturating_sub(now_ms)),
                deliveries: p.deliveries,
                failures: p.failures,
            };
            group.pending.iter().map(info).collect::<Vec<_>>()
        });
        same(&format!("pending entries of {g} of {s}"), got, want)
    }

    /// Everything there is.
    pub(crate) fn compare_all(&mut self) -> Outcome {
        let engine = self.engine();
        let names = self.answer(engine.streams("", None, 100)).map_err(|e| format!("listing streams: {e:?}"))?;
        let names: Vec<String> = names.iter().map(|i| i.name.to_string()).collect();
        same("streams", &names, &self.streams.keys().cloned().collect())?;
        for s in names {
            self.compare_stream(&s)?;
            let read = Read { entries_max: 10_000, bytes_max: 1 << 30, ..Read::all(name(&s)) };
            let page = self.answer(engine.read(read)).map_err(|e| format!("reading {s}: {e:?}"))?;
            same(&format!("entries of {s}"), page.entries, self.streams[&s].existing().map(stored).collect())?;
            let groups: Vec<String> = self.streams[&s].groups.keys().cloned().collect();
            for g in groups {
                self.compare_group(&s, &g)?;
                self.compare_letters(&s, &g)?;
            }
        }
        Ok(())
    }

    fn compare_letters(&mut self, s: &str, g: &str) -> Outcome {
        let engine = self.engine();
        let got = self.answer(engine.dead_letters(&name(s), &group_name(g), None, 10_000));
        let got = got
            .map(|letters| letters.letters.into_iter().map(|l| (l.id, l.entry.bytes, l.origin_id)).collect::<Vec<_>>());
        let target = letters_of(s, g, self.group(s, g).expect("it was just there"));
        let want = self.streams.get(&target).map_or(Vec::new(), |stream| {
            let ours = |e: &&crate::stream::Entry| {
                e.letter.as_ref().is_some_and(|(_, l)| l.group == g && l.origin_stream == s)
            };
            let letters = stream.existing().filter(ours).filter_map(|e| e.letter.as_ref().map(|l| (e.id, l)));
            letters.map(|(id, (plain, l))| (id, plain.bytes.clone(), l.origin_id)).collect()
        });
        same(&format!("letters of {g} of {s}"), got, Ok(want))
    }
}
