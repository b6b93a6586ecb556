//! Targets: what must hold for whatever bytes come. A target panics if something does not.
//! What must not live here: where bytes come from (`bin/fuzz`, `tests/replay`).

#![allow(clippy::panic, reason = "a target says no by a panic")]
#![allow(clippy::unwrap_used, reason = "the simulator is a test")]
#![allow(clippy::cast_possible_truncation, reason = "numbers of a run are small")]
#![allow(clippy::wildcard_enum_match_arm, reason = "the model names what it knows")]
#![allow(clippy::type_complexity, reason = "tables of weights and steps")]

mod allocations;
/// The broker's own files, compiled here: the server is a binary and nobody's dependency.
#[allow(dead_code, unreachable_pub, reason = "a target needs a part of it")]
#[path = "../../../broker/server/src/net"]
mod net {
    pub(crate) mod alias;
    pub(crate) mod decode;
    pub(crate) mod encode;
    pub(crate) mod frame;
    pub(crate) mod proxy;
    pub(crate) mod strict;
    pub(crate) mod ws {
        pub(crate) mod frame;
    }
}
mod packets;
mod proxy;
mod replies;
mod session;
mod topics;
mod websocket;
// The simulator, at the root: its files look for each other there.
#[path = "../../sim/act.rs"]
mod act;
#[path = "../../sim/client.rs"]
mod client;
#[allow(dead_code, reason = "what a run reached is for the eyes of its own test")]
#[path = "../../sim/coverage.rs"]
mod coverage;
#[path = "../../sim/finish.rs"]
mod finish;
#[path = "../../sim/hooks.rs"]
mod hooks;
#[path = "../../sim/model/mod.rs"]
mod model;
#[path = "../../sim/packet.rs"]
mod packet;
#[path = "../../sim/rng.rs"]
mod rng;
#[path = "../../sim/scenario.rs"]
mod scenario;
#[path = "../../sim/shell.rs"]
mod shell;
#[path = "../../sim/store.rs"]
mod store;
#[path = "../../sim/trace.rs"]
mod trace;
#[allow(dead_code, reason = "its own test runs seeds")]
#[path = "../../sim/world.rs"]
mod world;

/// Something to be tried with any bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Tries.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 6] = [
    Target { name: "packets", run: packets::run },
    Target { name: "proxy", run: proxy::run },
    Target { name: "replies", run: replies::run },
    Target { name: "session", run: session::run },
    Target { name: "topics", run: topics::run },
    Target { name: "websocket", run: websocket::run },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
