//! What was asked and what was refused, counted for `INFO`: commands by name, errors by the word that they begin with.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::refusal::Refusal;
use super::reply::Reply;

/// Words of errors that are told apart at most: all that there are, with some to spare.
const CODES_MAX: usize = 128;

/// The counts since the server started, or since they were set to zero.
pub(super) struct Stats {
    commands: BTreeMap<&'static str, Counts>,
    errors: Mutex<BTreeMap<String, u64>>,
}

/// What is counted of a command.
#[derive(Default)]
struct Counts {
    calls: AtomicU64,
    /// From when it began until its reply was there, whatever it waited for, in microseconds.
    micros: AtomicU64,
    /// Refused before it began.
    rejected: AtomicU64,
    failed: AtomicU64,
}

impl Stats {
    pub(super) fn of(commands: impl Iterator<Item = &'static str>) -> Self {
        Self { commands: commands.map(|name| (name, Counts::default())).collect(), errors: Mutex::default() }
    }

    /// Counts calls of a command, which took so long together.
    pub(super) fn called(&self, command: &str, calls: u64, micros: u64) {
        if let Some(counts) = self.commands.get(command) {
            counts.calls.fetch_add(calls, Ordering::Relaxed);
            counts.micros.fetch_add(micros, Ordering::Relaxed);
        }
    }

    /// Counts what a call was answered, where that is an error.
    pub(super) fn answered(&self, command: &str, reply: &Reply) {
        if matches!(reply, Reply::Refused(_))
            && let Some(counts) = self.commands.get(command)
        {
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a request that was refused before it began, where it names a command.
    pub(super) fn rejected(&self, command: &[u8]) {
        let found = self.commands.iter().find(|(name, _)| command.eq_ignore_ascii_case(name.as_bytes()));
        if let Some((_, counts)) = found {
            counts.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts an error.
    pub(super) fn refused(&self, refusal: &Refusal) {
        let code = refusal.0.split(' ').next().unwrap_or_default();
        let mut errors = self.errors.lock();
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < CODES_MAX {
            errors.insert(code.to_owned(), 1);
        }
    }

    pub(super) fn reset(&self) {
        self.errors.lock().clear();
        for counts in self.commands.values() {
            for count in [&counts.calls, &counts.micros, &counts.rejected, &counts.failed] {
                count.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Calls of all commands together.
    pub(super) fn calls(&self) -> u64 {
        self.commands.values().map(|counts| counts.calls.load(Ordering::Relaxed)).sum()
    }

    /// All errors together.
    pub(super) fn errors(&self) -> u64 {
        self.errors.lock().values().sum()
    }

    /// A line for each kind of error.
    pub(super) fn error_lines(&self) -> String {
        let errors = self.errors.lock();
        errors.iter().map(|(code, count)| format!("errorstat_{code}:count={count}\r\n")).collect()
    }

    /// A line for each command that was asked for.
    pub(super) fn command_lines(&self) -> String {
        self.commands.iter().filter_map(|(name, counts)| counts.line(name)).collect()
    }
}

impl Counts {
    fn line(&self, name: &str) -> Option<String> {
        let [calls, micros, rejected, failed] =
            [&self.calls, &self.micros, &self.rejected, &self.failed].map(|count| count.load(Ordering::Relaxed));
        let per_call = micros as f64 / calls.max(1) as f64;
        let line = format!(
            "cmdstat_{name}:calls={calls},usec={micros},usec_per_call={per_call:.2},rejected_calls={rejected},\
             failed_calls={failed}\r\n"
        );
        (calls + rejected > 0).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_by_name_and_errors_by_their_first_word() {
        let stats = Stats::of(["a", "b", "c"].into_iter());
        for text in ["ERR one", "NOGROUP two", "ERR three"] {
            let refusal = Refusal::new(text);
            stats.refused(&refusal);
            stats.answered("a", &refusal.into());
        }
        stats.called("a", 4, 10);
        stats.answered("a", &Reply::OK);
        stats.rejected(b"B");
        stats.rejected(b"unknown");
        assert_eq!(stats.error_lines(), "errorstat_ERR:count=2\r\nerrorstat_NOGROUP:count=1\r\n");
        assert_eq!(
            stats.command_lines(),
            "cmdstat_a:calls=4,usec=10,usec_per_call=2.50,rejected_calls=0,failed_calls=3\r\n\
             cmdstat_b:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0\r\n"
        );
        assert_eq!((stats.calls(), stats.errors()), (4, 3));
        stats.reset();
        assert_eq!((stats.command_lines(), stats.calls(), stats.errors()), (String::new(), 0, 0));
    }
}
