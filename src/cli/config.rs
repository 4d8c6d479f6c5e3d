//! `synapse config check`: whether the settings that `serve` would take make sense.

use super::serve;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check settings of file, environment and flags together.
    Check(serve::Args),
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Command::Check(args) = args.command;
    let settings = args.settings()?;
    println!("settings are valid: {} on {}", settings.data_dir.display(), settings.listen);
    Ok(())
}
