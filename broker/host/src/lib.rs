//! The plugin host of wasmqtt: sandboxed WebAssembly components, called within bounds.
//! What must not live here: sockets, MQTT packets, and the order in which rules and plugins decide.
//!
//! A plugin is loaded ([`plugin::Plugin::load`]), activated with others
//! ([`active::ActivePlugins::activate`]) and called by worker threads, each of which owns a
//! [`worker::WorkerPlugins`]. Whatever goes wrong in a plugin is answered by refusing, or for
//! `on-publish` by what the operator chose; see [`fault::FaultKind`].
#![deny(unsafe_code)]

pub mod active;
pub mod answer;
mod auth_pool;
mod breaker;
mod builder;
pub mod clock;
pub mod engine;
pub mod fault;
mod fault_log;
mod instance;
pub mod limits;
pub mod load_error;
pub mod manifest;
pub mod plugin;
mod schema;
mod sections;
pub mod services;
mod state;
pub mod stats;
mod trusted;
mod v1;
mod v2;
pub mod worker;
