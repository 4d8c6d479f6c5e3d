//! What the commands take that work on a data directory while no server has it open.

use std::path::PathBuf;

use super::render::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Directory {
    /// The data directory.
    #[arg(long, env = "SYNAPSE_DATA_DIR", default_value = "./synapse-data", value_name = "DIR")]
    pub(super) data_dir: PathBuf,
    #[command(flatten)]
    pub(super) output: Output,
}
