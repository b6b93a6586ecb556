//! The pure core of the wasmqtt broker: `Worker::handle(now, event, shell)`.
//! What must not live here: sockets, clocks, randomness, threads, WebAssembly, SQL.
#![forbid(unsafe_code)]

pub mod access;
pub mod action;
pub mod event;
pub mod hook;
pub mod ids;
pub mod limits;
pub mod message;
pub mod ordering;
pub mod properties;
pub mod reason;
pub mod retained;
pub mod rewrite;
pub mod router;
pub mod session;
pub mod store;
pub mod time;
pub mod topic;
pub mod worker;
