//! The lab: reference coordinator, trusted endpoint, HTTPS origin, DNS over HTTPS and buyer in one process.
//!
//! It is written from the contract alone and from the *other* implementation of each primitive (Ed25519 by
//! ed25519-compact, SHA-256 by sha2, JSON by tinyjson and a writer of its own, HTTP by hyper, DNS by hickory-proto, BLAKE3
//! and base64 by hand), so that a mistake in a contract cannot cancel itself out. It records every breach of the contract
//! instead of forgiving it. Built with feature `lab`, never packaged; `echomesh-lab --help` lists its flags.
mod api;
mod args;
mod bell;
pub(crate) mod blake3;
mod buyer;
mod client;
pub(crate) mod clock;
pub(crate) mod coordinator;
mod demo;
mod doh;
mod endpoint;
mod farewell;
mod flood;
mod http;
pub(crate) mod httpsig;
pub(crate) mod json;
pub(crate) mod keys;
mod lease;
mod lease_proxy;
mod origin;
mod pki;
mod shape;
#[cfg(test)]
mod tests;
pub(crate) mod text;
mod trespass;
mod up;

use args::Command;
use std::ffi::OsString;
use std::process::ExitCode;
use std::rc::Rc;

/// Runs the lab's command line, without the program's name.
pub fn run(raw: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut raw = raw.into_iter().peekable();
    if raw.next_if(|word| word == "demo").is_some() {
        return demo::run(raw);
    }
    if raw.next_if(|word| word == "trespass").is_some() {
        return trespass::run(raw);
    }
    let command = match args::parse(raw) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("echomesh-lab: {error}; --help lists the flags");
            return ExitCode::from(2);
        }
    };
    let executor: http::Executor = Rc::default();
    let done = async_io::block_on(executor.run(async {
        match command {
            Command::Help => {
                print!("{}", args::HELP);
                Ok(true)
            }
            Command::Up(up) => up::run(Rc::clone(&executor), up).await.map(|()| true),
            Command::Buyer(buyer) => buyer::run(&executor, buyer).await,
            Command::Flood(flood) => flood::run(&executor, flood).await,
            Command::Ask(ask) => client::ask(&executor, &ask).await,
        }
    }));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("echomesh-lab: {error}");
            ExitCode::from(1)
        }
    }
}
