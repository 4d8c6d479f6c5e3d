//! `synapse config check`: whether the settings that `serve` would take make sense.

use serde_json::json;

use super::render::Output;
use super::serve;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check settings of file, environment and flags together.
    Check(Check),
}

#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    serve: serve::Args,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Command::Check(args) = args.command;
    let settings = args.serve.settings()?;
    let (data_dir, listen) = (settings.data_dir.display(), settings.listen);
    if args.output.json {
        println!("{}", json!({ "valid": true, "data_dir": data_dir.to_string(), "listen": listen.to_string() }));
    } else {
        println!("settings are valid: {data_dir} on {listen}");
    }
    Ok(())
}
