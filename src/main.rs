//! The node and its tools.
use std::process::ExitCode;

fn main() -> ExitCode {
    echomesh::cli::main(std::env::args_os().skip(1))
}
