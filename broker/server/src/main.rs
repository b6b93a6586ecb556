//! wasmqtt: an MQTT broker whose authentication, access control and transforms are sandboxed
//! WebAssembly plugins. This is where the process begins and gets its exit code.
//! What must not live here: anything else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use rustix::fs::Mode;

mod admin;
mod auth;
mod certificates;
mod cli;
mod client;
mod clock;
mod config;
mod instance;
mod logging;
mod mailbox;
mod net;
mod outgoing;
mod plugins;
mod runtime;
mod service;
mod shell;
mod worker_loop;

/// A message lives from one connection's turn to another's: the system's allocator spends a fifth of
/// the time of a QoS 1 message on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Whatever this process makes is its owner's alone, also what a library makes.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let code = match cli::run(cli::arguments::Arguments::parse()) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    };
    logging::finish();
    code
}
