//! The only code of this crate that may say `unsafe`: lending facts to a call, loading compiled
//! code, and what wasmtime generates from the contract.
//! What must not live here: anything that can be said without it.
#![allow(unsafe_code, reason = "the one module of this crate that may say unsafe")]

pub(crate) mod additions;
pub(crate) mod bindings;
pub(crate) mod code_cache;
pub(crate) mod lend;
