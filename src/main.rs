//! The `synapse` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    synapse::cli::main()
}
