//! Requests that are added once: IDMP and IDMPAUTO of XADD, and XCFGSET.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::Xxh3;

use crate::access::Permission;
use crate::engine::OnceName;
use crate::limits::NAME_BYTES_MAX;
use crate::resp::args::{Args, int};
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;
use crate::types::IdRequest;

/// Seconds that a name can be remembered at most, and names of one producer.
pub(super) const WINDOW_MAX_S: u32 = 86_400;
pub(super) const NAMES_MAX: u32 = 10_000;

/// What stands for a long name begins with this, and has so many bytes.
const HASHED: u8 = 0xff;
const HASHED_BYTES: usize = 1 + 32;

/// What an XADD says of that.
pub(super) enum Once<'a> {
    /// A name of the producer's own.
    Named(&'a Bytes, &'a Bytes),
    /// The content is the name.
    ByContent(&'a Bytes),
}

impl<'a> Once<'a> {
    /// `IDMP producer name` or `IDMPAUTO producer`, where the next word begins one of them, and none came before.
    pub(super) fn take(args: &mut Args<'a>, before: Option<&Self>) -> Result<Option<Self>, Refusal> {
        let is_named = args.rest().len() > 2 && args.next_is("idmp");
        let is_taken = is_named || (args.rest().len() > 1 && args.next_is("idmpauto"));
        if !is_taken {
            return Ok(None);
        }
        if before.is_some() {
            return Err(Refusal::new("ERR syntax error, IDMP/IDMPAUTO specified multiple times"));
        }
        let option = if is_named { "IDMP" } else { "IDMPAUTO" };
        let producer = filled(args.next()?, option, "producer")?;
        Ok(Some(match is_named {
            true => Self::Named(producer, filled(args.next()?, option, "idempotent")?),
            false => Self::ByContent(producer),
        }))
    }

    /// Refuses ids that are not made here: those tell a request already.
    pub(super) fn check_ids(ids: IdRequest) -> Result<(), Refusal> {
        let wrong = "ERR syntax error, IDMP/IDMPAUTO can be used only with auto-generated IDs";
        if ids == IdRequest::Auto { Ok(()) } else { Err(Refusal::new(wrong)) }
    }

    /// The name of a request with these fields.
    pub(super) fn name(self, fields: &[Bytes]) -> OnceName {
        match self {
            Self::Named(producer, name) => OnceName { producer: bounded(producer), name: bounded(name) },
            Self::ByContent(producer) => OnceName { producer: bounded(producer), name: content_name(fields) },
        }
    }
}

fn filled<'a>(name: &'a Bytes, option: &str, what: &str) -> Result<&'a Bytes, Refusal> {
    let wrong = || Refusal::new(format!("ERR syntax error, {option} requires a non-empty {what} ID"));
    if name.is_empty() { Err(wrong()) } else { Ok(name) }
}

/// A name as it is remembered: what is longer than the engine's names are is hashed, and what could be taken for such a
/// hash, too.
fn bounded(name: &[u8]) -> Vec<u8> {
    let looks_hashed = name.len() == HASHED_BYTES && name[0] == HASHED;
    if name.len() <= NAME_BYTES_MAX && !looks_hashed {
        return name.to_vec();
    }
    [&[HASHED], &Sha256::digest(name)[..]].concat()
}

/// A name for fields and their values, in whatever order they come.
fn content_name(fields: &[Bytes]) -> Vec<u8> {
    let hash = |pair: &[Bytes]| {
        let mut hash = Xxh3::new();
        hash.update(&(pair[0].len() as u64).to_le_bytes());
        pair.iter().for_each(|part| hash.update(part));
        hash.digest128()
    };
    let whole = fields.chunks_exact(2).map(hash).fold(0u128, u128::wrapping_add);
    whole.to_le_bytes().to_vec()
}

impl Session {
    /// `XCFGSET key [IDMP-DURATION seconds] [IDMP-MAXSIZE names]`
    pub(in crate::resp) async fn configure_stream(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let key = args.next()?;
        let stream = self.stream(key, Permission::Admin)?;
        if !self.engine.has_stream(&stream) {
            return Err(Refusal::new("ERR no such key"));
        }
        if args.is_empty() {
            return Err(Refusal::new("ERR At least one parameter must be specified"));
        }
        let (mut window_s, mut names_max) = (None, None);
        while !args.is_empty() {
            if args.next_is("idmp-duration") {
                set(&mut window_s, &mut args, "IDMP-DURATION", (WINDOW_MAX_S, "seconds"))?;
            } else if args.next_is("idmp-maxsize") {
                set(&mut names_max, &mut args, "IDMP-MAXSIZE", (NAMES_MAX, "entries"))?;
            } else {
                return Err(Refusal::syntax());
            }
        }
        self.engine.configure_once(&stream, window_s, names_max).await?;
        Ok(Reply::OK)
    }
}

/// Takes a parameter's value: 1 to `max`, once.
fn set(to: &mut Option<u32>, args: &mut Args<'_>, name: &str, (max, of): (u32, &str)) -> Result<(), Refusal> {
    let value = args.next()?;
    if to.is_some() {
        return Err(Refusal::new(format!("ERR {name} specified multiple times")));
    }
    let value = int(value).ok_or_else(Refusal::not_an_integer)?;
    *to = u32::try_from(value).ok().filter(|value| (1..=max).contains(value));
    let wrong = || Refusal::new(format!("ERR {name} must be between 1 and {max} {of}"));
    to.is_some().then_some(()).ok_or_else(wrong)
}
