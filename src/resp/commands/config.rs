//! CONFIG: the settings that clients of Redis ask for, with what is true of them here. Few can be set.

use super::help;
use super::once::{NAMES_MAX, WINDOW_MAX_S};
use crate::access::{Permission, glob_matches};
use crate::resp::args::{Args, int};
use crate::resp::port::Port;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;

const ONCE_NAMES: &str = "stream-idmp-maxsize";
const ONCE_WINDOW: &str = "stream-idmp-duration";
const NODE_BYTES: &str = "stream-node-max-bytes";
const NODE_ENTRIES: &str = "stream-node-max-entries";

/// Settings that are as they are: nothing is evicted, everything is on the disk when it is answered.
const FIXED: [(&str, &str); 9] = [
    ("appendfsync", "always"),
    ("appendonly", "yes"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("notify-keyspace-events", ""),
    ("requirepass", ""),
    ("save", ""),
    ("timeout", "0"),
];

/// A change that was checked.
enum Change {
    NodeBytes(u64),
    NodeEntries(u64),
    OnceNames(u32),
    OnceWindow(u32),
    /// To what it is already.
    None,
}

impl Session {
    pub(in crate::resp) fn config(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let whole = args;
        match help::subcommand("config", &mut args)? {
            "get" => Ok(self.configured(args)),
            "set" => self.configure(args),
            "resetstat" => {
                self.may(Permission::Admin, "*")?;
                self.port.stats.reset();
                Ok(Reply::OK)
            }
            _ => help::of("config", whole),
        }
    }

    /// The settings that fit one of the patterns, under the name that was asked for where that is no pattern.
    fn configured(&self, args: Args<'_>) -> Reply {
        let patterns: Vec<_> = args.rest().iter().map(|pattern| String::from_utf8_lossy(pattern)).collect();
        let mut found = Vec::new();
        for (name, value) in settings(&self.port) {
            let asked = patterns.iter().find(|pattern| glob_matches(&pattern.to_ascii_lowercase(), name));
            let Some(asked) = asked else { continue };
            let shown = if asked.eq_ignore_ascii_case(name) { asked } else { name };
            found.push((Reply::text(shown), Reply::text(value)));
        }
        Reply::Map(found)
    }

    /// All of the changes, or none.
    fn configure(&self, args: Args<'_>) -> Result<Reply, Refusal> {
        self.may(Permission::Admin, "*")?;
        let (pairs, []) = args.rest().as_chunks::<2>() else { return Err(Refusal::syntax()) };
        let mut changes = Vec::new();
        for (at, [name, value]) in pairs.iter().enumerate() {
            let given = String::from_utf8_lossy(name);
            let lower = given.to_ascii_lowercase();
            let failed = |why: &str| {
                Refusal::new(format!("ERR CONFIG SET failed (possibly related to argument '{given}') - {why}"))
            };
            if pairs[..at].iter().any(|[earlier, _]| earlier.eq_ignore_ascii_case(name)) {
                return Err(failed("duplicate parameter"));
            }
            let change = match (&lower[..], fixed(&lower)) {
                (NODE_BYTES, _) => {
                    Change::NodeBytes(memory(value).ok_or_else(|| failed("argument must be a memory value"))?)
                }
                (NODE_ENTRIES, _) => {
                    let count = int(value).ok_or_else(|| failed("argument couldn't be parsed into an integer"))?;
                    let why = "argument must be between 0 and 9223372036854775807 inclusive";
                    Change::NodeEntries(u64::try_from(count).map_err(|_| failed(why))?)
                }
                (ONCE_NAMES, _) => Change::OnceNames(within(value, NAMES_MAX).map_err(|why| failed(&why))?),
                (ONCE_WINDOW, _) => Change::OnceWindow(within(value, WINDOW_MAX_S).map_err(|why| failed(&why))?),
                (_, Some(is)) if value == is.as_bytes() => Change::None,
                (_, Some(_)) => return Err(failed("can't set immutable config")),
                (_, None) => {
                    let text = format!("ERR Unknown option or number of arguments for CONFIG SET - '{given}'");
                    return Err(Refusal::new(text));
                }
            };
            changes.push(change);
        }
        let (mut nodes, mut once) = (self.port.engine.node_limits(), self.port.engine.once_settings());
        for change in changes {
            match change {
                Change::NodeBytes(bytes) => nodes.bytes = bytes,
                Change::NodeEntries(count) => nodes.entries = count,
                Change::OnceNames(count) => once.names_max = count,
                Change::OnceWindow(seconds) => once.window_s = seconds,
                Change::None => {}
            }
        }
        self.port.engine.set_node_limits(nodes);
        self.port.engine.set_once_settings(once);
        Ok(Reply::OK)
    }
}

/// All settings, by name.
fn settings(port: &Port) -> Vec<(&'static str, String)> {
    let mut all: Vec<_> = FIXED.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    all.push(("proto-max-bulk-len", port.options.request_bytes_max.to_string()));
    let nodes = port.engine.node_limits();
    all.push((NODE_BYTES, nodes.bytes.to_string()));
    all.push((NODE_ENTRIES, nodes.entries.to_string()));
    let once = port.engine.once_settings();
    all.push((ONCE_NAMES, once.names_max.to_string()));
    all.push((ONCE_WINDOW, once.window_s.to_string()));
    all.sort_unstable();
    all
}

/// A whole number from 1 on, or why it is none.
fn within(text: &[u8], max: u32) -> Result<u32, String> {
    let number = int(text).ok_or("argument couldn't be parsed into an integer")?;
    let number = u32::try_from(number).ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("argument must be between 1 and {max} inclusive"))
}

fn fixed(name: &str) -> Option<&'static str> {
    FIXED.iter().find(|(fixed, _)| *fixed == name).map(|(_, value)| *value)
}

/// Bytes, where `k` stands for a thousand of them and `kb` for 1024, and so on.
fn memory(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let factor = match &text[digits..].to_ascii_lowercase()[..] {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let count: u64 = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    count.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_with_its_unit() {
        assert_eq!((memory(b"12"), memory(b"4k"), memory(b"4KB")), (Some(12), Some(4000), Some(4096)));
        for wrong in ["", "k", "-1", "4 k", "4x", "99999999999999999gb"] {
            assert_eq!(memory(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
