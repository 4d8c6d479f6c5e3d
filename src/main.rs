//! The `synapse` program: parse, run, exit code.

fn main() {}
