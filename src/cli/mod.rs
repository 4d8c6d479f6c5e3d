//! The command line: one file a command.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.
//! Client commands speak gRPC to a server; `serve` is one.

mod ack;
mod backup;
mod bench;
mod claim;
mod client;
mod completions;
mod config;
mod consume;
mod dead_letters;
mod directory;
mod groups;
mod info;
mod keys;
mod nack;
mod pending;
mod progress;
mod publish;
mod rebuild;
mod reclaim;
mod redrive;
mod render;
mod restore;
mod seek;
mod serve;
mod streams;
mod tail;
mod trim;
mod values;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A stream engine that keeps its own data: events in, consumer groups out, over gRPC and HTTP.
///
/// Without a command it serves, as `synapse serve` does.
#[derive(Debug, Parser)]
#[command(name = "synapse", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve streams on one port until told to stop.
    Serve(serve::Args),
    /// Publish events and print their ids.
    Publish(publish::Args),
    /// Print events of a stream, and those that come.
    Tail(tail::Args),
    /// Consume events as a member of a group, acknowledging what was printed.
    Consume(consume::Args),
    /// List, make and delete streams.
    Streams(streams::Args),
    /// Show a stream with its groups, or all streams in sum.
    Info(info::Args),
    /// List, show, make and delete groups.
    Groups(groups::Args),
    /// Move the cursor of a group.
    Seek(seek::Args),
    /// List what a group delivered and nobody acknowledged.
    Pending(pending::Args),
    /// Take pending events over from other consumers.
    Claim(claim::Args),
    /// Acknowledge pending events.
    Ack(ack::Args),
    /// Give pending events back: to be delivered again, dead-lettered or skipped.
    Nack(nack::Args),
    /// Drop the oldest events of a stream.
    Trim(trim::Args),
    /// List and delete what a group gave up.
    DeadLetters(dead_letters::Args),
    /// Send dead letters back.
    Redrive(redrive::Args),
    /// Measure a server.
    Bench(bench::Args),
    /// Check settings without serving.
    Config(config::Args),
    /// Make API keys.
    Keys(keys::Args),
    /// Copy the store of a running server, or bring such a copy up to date.
    Backup(backup::Args),
    /// Make a data directory of a backup, or say what the backup covers.
    Restore(restore::Args),
    /// Check a data directory that no server has open, without changing it.
    Verify(verify::Args),
    /// Make the index of a data directory that no server has open anew from its log.
    Rebuild(directory::Directory),
    /// Give back the space of everything that no longer exists, in a data directory that no server has open
    Reclaim(directory::Directory),
    /// Print what makes a shell complete these commands.
    Completions(completions::Args),
}

/// Wrong usage that clap cannot see: ends the program with code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Fails with wrong usage.
fn usage<T>(message: impl Into<String>) -> anyhow::Result<T> {
    Err(Usage(message.into()).into())
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command.unwrap_or(Command::Serve(cli.serve))) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has enough, as `head` does: nothing failed.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do where even this cannot be written.
            let _ = writeln!(io::stderr(), "synapse: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => serve::run(args),
        Command::Publish(args) => block_on(publish::run(args)),
        Command::Tail(args) => block_on(tail::run(args)),
        Command::Consume(args) => block_on(consume::run(args)),
        Command::Streams(args) => block_on(streams::run(args)),
        Command::Info(args) => block_on(info::run(args)),
        Command::Groups(args) => block_on(groups::run(args)),
        Command::Seek(args) => block_on(seek::run(args)),
        Command::Pending(args) => block_on(pending::run(args)),
        Command::Claim(args) => block_on(claim::run(args)),
        Command::Ack(args) => block_on(ack::run(args)),
        Command::Nack(args) => block_on(nack::run(args)),
        Command::Trim(args) => block_on(trim::run(args)),
        Command::DeadLetters(args) => block_on(dead_letters::run(args)),
        Command::Redrive(args) => block_on(redrive::run(args)),
        Command::Bench(args) => block_on(bench::run(args)),
        Command::Config(args) => config::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Backup(args) => block_on(backup::run(args)),
        Command::Restore(args) => restore::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Rebuild(args) => rebuild::run(&args),
        Command::Reclaim(args) => reclaim::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    // A thread may be waiting for standard input for ever.
    runtime.shutdown_background();
    outcome
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
