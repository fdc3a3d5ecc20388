//! The reference counterparts of the node; see [`echomesh::lab`].
fn main() -> std::process::ExitCode {
    echomesh::lab::run(std::env::args_os().skip(1))
}
