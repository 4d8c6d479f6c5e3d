//! EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT, PERSIST, TTL, PTTL, EXPIRETIME, PEXPIRETIME.

use crate::access::Permission;
use crate::clock::Clock;
use crate::engine::{ExpireAt, SetExpiry};
use crate::error::Reason;
use crate::resp::args::Args;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;

/// How a command counts time.
#[derive(Clone, Copy, Debug)]
pub(in crate::resp) struct Unit<'a> {
    /// What it is called, for refusals.
    command: &'a str,
    /// Milliseconds of one.
    ms: i64,
    /// Whether it counts from now, not from the Unix epoch.
    from_now: bool,
}

impl<'a> Unit<'a> {
    /// That of this command.
    pub(in crate::resp) fn of(command: &'a str) -> Self {
        let ms = if command.starts_with('p') { 1 } else { 1000 };
        let from_now = !matches!(command, "expireat" | "pexpireat" | "expiretime" | "pexpiretime");
        Self { command, ms, from_now }
    }

    /// The moment that a command names; one long past where it is not after `now_ms`: the engine judges by the time at
    /// which its round began, which may be a little before, and would keep what is to go at once.
    fn at(self, time: &[u8], now_ms: u64) -> Result<ExpireAt, Refusal> {
        let time = crate::resp::args::int(time).ok_or_else(Refusal::not_an_integer)?;
        let now_ms = now_ms as i64;
        let since_ms = if self.from_now { now_ms } else { 0 };
        let at_ms = time.checked_mul(self.ms).and_then(|ms| ms.checked_add(since_ms));
        let at_ms =
            at_ms.ok_or_else(|| Refusal::new(format!("ERR invalid expire time in '{}' command", self.command)))?;
        Ok(match at_ms > now_ms {
            false => ExpireAt::WallMs(0),
            true if self.from_now => ExpireAt::AfterMs((at_ms - now_ms) as u64),
            true => ExpireAt::WallMs(at_ms as u64),
        })
    }
}

impl Session {
    /// `EXPIRE key time [NX | XX | GT | LT]` and its kin.
    pub(in crate::resp) async fn expire(&self, mut args: Args<'_>, unit: Unit<'_>) -> Result<Reply, Refusal> {
        let (key, time) = (args.next()?, args.next()?);
        let condition = condition(args)?;
        let at = unit.at(time, self.clock.now().wall_ms)?;
        let stream = self.stream(key, Permission::Admin)?;
        let to = SetExpiry { to: Some(at), ..condition };
        Ok(Reply::Int(i64::from(self.engine.set_expiry(&stream, to).await?)))
    }

    pub(in crate::resp) async fn persist(&self, mut args: Args<'_>) -> Result<Reply, Refusal> {
        let stream = self.stream(args.next()?, Permission::Admin)?;
        let to = SetExpiry { had: Some(true), ..SetExpiry::default() };
        Ok(Reply::Int(i64::from(self.engine.set_expiry(&stream, to).await?)))
    }

    /// When a stream goes, or how long that is from now; -1 where it stays, -2 where there is none.
    pub(in crate::resp) async fn expiry(&self, mut args: Args<'_>, unit: Unit<'_>) -> Result<Reply, Refusal> {
        let stream = self.stream(args.next()?, Permission::Read)?;
        let info = match self.engine.stream_counts(&stream).await {
            Err(error) if error.reason() == Reason::StreamNotFound => return Ok(Reply::Int(-2)),
            info => info?,
        };
        let Some(at_ms) = info.expires_ms else { return Ok(Reply::Int(-1)) };
        let since_ms = if unit.from_now { self.clock.now().wall_ms } else { 0 };
        let ms = at_ms.saturating_sub(since_ms);
        // To the nearest, as Redis rounds.
        Ok(Reply::count((ms + unit.ms as u64 / 2) / unit.ms as u64))
    }
}

/// `[NX | XX | GT | LT]`, several where they do not contradict each other.
fn condition(mut args: Args<'_>) -> Result<SetExpiry, Refusal> {
    let mut condition = SetExpiry::default();
    let (mut nx, mut xx) = (false, false);
    while !args.is_empty() {
        if args.next_is("nx") {
            nx = true;
        } else if args.next_is("xx") {
            xx = true;
        } else if args.next_is("gt") {
            condition.later = true;
        } else if args.next_is("lt") {
            condition.earlier = true;
        } else {
            let option = String::from_utf8_lossy(args.next()?).into_owned();
            return Err(Refusal::new(format!("ERR Unsupported option {option}")));
        }
    }
    if nx && (xx || condition.later || condition.earlier) {
        return Err(Refusal::new("ERR NX and XX, GT or LT options at the same time are not compatible"));
    }
    if condition.later && condition.earlier {
        return Err(Refusal::new("ERR GT and LT options at the same time are not compatible"));
    }
    condition.had = (nx || xx).then_some(xx);
    Ok(condition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_passed_has_passed_by_every_clock() {
        let at = |command, time: &[u8]| Unit::of(command).at(time, 5000).unwrap();
        let past = [at("expire", b"0"), at("pexpire", b"0"), at("pexpire", b"-1"), at("expireat", b"5")];
        assert_eq!(past, [ExpireAt::WallMs(0); 4]);
        assert_eq!([at("pexpire", b"1"), at("expire", b"1")], [ExpireAt::AfterMs(1), ExpireAt::AfterMs(1000)]);
        assert_eq!(at("pexpireat", b"5001"), ExpireAt::WallMs(5001));
    }
}
