//! Write a wasmqtt plugin in Rust: implement [`Plugin`] and the trait of each hook it takes part
//! in, name them in [`export!`], describe the plugin in `plugin.toml`.
//!
//! ```
//! use wasmqtt_plugin::{Authorize, CacheHint, Connection, Decision, Plugin, Request, Startup};
//!
//! struct ReadOnly;
//!
//! impl Plugin for ReadOnly {
//!     fn init(_startup: &Startup) -> Result<Self, String> {
//!         Ok(ReadOnly)
//!     }
//! }
//!
//! impl Authorize for ReadOnly {
//!     fn authorize(&mut self, _: &Connection, request: &Request, _: &CacheHint) -> Decision {
//!         match request.action {
//!             wasmqtt_plugin::Action::Subscribe => Decision::Next,
//!             _ => Decision::not_authorized("this broker is read-only"),
//!         }
//!     }
//! }
//! # // export!(ReadOnly: Authorize); reads plugin.toml, which a doc test has not.
//! ```
//!
//! The traits are the same natively, where [`mock`] stands in for the broker: a plugin's tests are
//! ordinary `#[test]` functions. This crate speaks version 0.1.0 of the `wasmqtt:plugin` contract
//! (`wit/0.1.0/plugin.wit`) and what 0.2.0 adds (`wit/0.2.0/plugin.wit`); a plugin that uses nothing
//! of that asks a broker for 0.1.0 only. No policy lives here, and no list of the broker's limits.

pub mod clock;
mod export;
mod hooks;
pub mod kv;
pub mod log;
pub mod random;
pub mod reason_code;
mod types;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod glue;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;

pub use hooks::{AuthExchange, Authenticate, Authorize, OnPublish, Plugin};
pub use types::{
    Action, CacheHint, Connection, Decision, Denial, Exchange, Grant, Message, QoS, Request,
    Startup, StepDecision, Verdict,
};
