//! The host with real components: the bundled plugins, good fixtures and misbehaving ones.
//! What must not live here: tests that need no component; they stand beside the code.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod bundled;
mod chain;
mod exchange;
mod faults;
mod loading;
mod quarantine;
mod support;
