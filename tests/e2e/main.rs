//! The broker from the outside: its binary, real sockets, MQTT by chapter for 3.1.1 and 5.
//! What must not live here: anything that reads the broker's memory or links its crates.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the packet that it awaits"
)]

mod support;

mod connect;
mod disconnect;
mod flow;
mod keep_alive;
mod malformed;
mod pipelining;
mod publish_qos0;
mod publish_qos1;
mod publish_qos2;
mod retained;
mod session;
mod shared;
mod shutdown;
mod subscribe;
mod takeover;
mod unsubscribe;
mod will;
