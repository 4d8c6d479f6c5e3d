//! `synapse keys new`: a random API key, shown once, with the block of settings that lets it in.

use sha2::{Digest, Sha256};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key. The server stores only its digest: what is printed here is not shown again.
    New(New),
}

#[derive(Debug, clap::Args)]
struct New {
    /// Name of the key's holder.
    name: String,
    /// Streams that it may use: a name, in which `*` stands for any run of characters.
    #[arg(long, default_value = "*", value_name = "PATTERN")]
    streams: String,
    /// What it may do there.
    #[arg(long, value_delimiter = ',', default_value = "publish,consume,read", value_name = "LIST")]
    #[arg(value_parser = ["publish", "consume", "read", "admin"])]
    permissions: Vec<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Command::New(new) = args.command;
    let mut random = [0u8; 32];
    getrandom::fill(&mut random).map_err(|e| anyhow::anyhow!("the system gives no random bytes: {e}"))?;
    let key = format!("syn_{}", hex(&random));
    let digest = hex(&Sha256::digest(key.as_bytes()));
    println!("# the key, shown only here: {key}");
    println!("[[api_keys]]");
    println!("name = {}", toml::Value::from(new.name));
    println!("sha256 = \"{digest}\"");
    println!(
        "grants = [{{ streams = {}, permissions = {} }}]",
        toml::Value::from(new.streams),
        toml::Value::from(new.permissions)
    );
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
