//! The broker from the outside: its binary, real sockets, MQTT by chapter for 3.1.1 and 5.
//! What must not live here: anything that reads the broker's memory or links its crates.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test names the packet that it awaits")]
#![allow(clippy::disallowed_methods, reason = "deadlines of real sockets")]

mod support;

mod access;
mod bad_input;
mod cli;
mod cli_clients;
mod connect;
mod delayed;
mod disconnect;
mod enhanced_auth;
mod flow;
mod foreign_clients;
mod interop;
mod keep_alive;
mod listeners;
mod malformed;
mod pipelining;
mod plugin_faults;
mod plugins;
mod pressure;
mod proxy;
mod publish_qos0;
mod publish_qos1;
mod publish_qos2;
mod real_clients;
mod retained;
mod session;
mod shared;
mod shared_leaving;
mod shutdown;
mod startup;
mod subscribe;
mod takeover;
mod tls;
mod topics;
mod tour;
mod transports;
mod unix;
mod unsubscribe;
mod version_3_1;
mod websocket;
mod will;
