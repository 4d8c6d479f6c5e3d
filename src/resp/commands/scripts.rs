//! FUNCTION and SCRIPT: there are none here. What clients send to be sure of that is answered, so that they go on.

use super::help;
use crate::resp::args::Args;
use crate::resp::refusal::Refusal;
use crate::resp::reply::Reply;
use crate::resp::session::Session;

impl Session {
    /// `FUNCTION FLUSH [ASYNC | SYNC]`, `FUNCTION LIST`.
    pub(in crate::resp) fn function(mut args: Args<'_>) -> Result<Reply, Refusal> {
        let whole = args;
        match help::subcommand("function", &mut args)? {
            "flush" => flushed("FUNCTION FLUSH", args),
            "list" => Ok(Reply::Array(Vec::new())),
            _ => help::of("function", whole),
        }
    }

    /// `SCRIPT FLUSH [ASYNC | SYNC]`, `SCRIPT EXISTS digest ...`.
    pub(in crate::resp) fn script(mut args: Args<'_>) -> Result<Reply, Refusal> {
        let whole = args;
        match help::subcommand("script", &mut args)? {
            "exists" => Ok(Reply::Array(args.rest().iter().map(|_| Reply::Int(0)).collect())),
            "flush" => flushed("SCRIPT FLUSH", args),
            _ => help::of("script", whole),
        }
    }
}

fn flushed(command: &str, mut args: Args<'_>) -> Result<Reply, Refusal> {
    let _ = args.next_is("async") || args.next_is("sync");
    args.end().map_err(|_| Refusal::new(format!("ERR {command} only supports SYNC|ASYNC option")))?;
    Ok(Reply::OK)
}
