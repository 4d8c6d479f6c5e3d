//! The program as its users run it: a real server process, and commands against it. One binary, a module a topic.

#[path = "cli/backup.rs"]
mod backup;
#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/http_client.rs"]
mod http_client;
#[path = "cli/lost.rs"]
mod lost;
#[path = "cli/platform.rs"]
mod platform;
#[path = "cli/process.rs"]
mod process;
#[path = "cli/readme.rs"]
mod readme;
#[path = "cli/rebuild.rs"]
mod rebuild;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/tls.rs"]
mod tls;
#[path = "cli/upkeep.rs"]
mod upkeep;
#[path = "cli/verify.rs"]
mod verify;
