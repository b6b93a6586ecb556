//! What wasmtime generates from contract version 0.1.0.
//! What must not live here: code by hand.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths,
    clippy::all,
    clippy::semicolon_if_nothing_returned,
    clippy::uninlined_format_args,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes_without_reason,
    reason = "generated from the contract"
)]

/// What a resource handle stands for: the facts of the running call, whatever its number.
pub struct Connection;
/// See [`Connection`].
pub struct Message;
/// See [`Connection`].
pub struct Startup;
/// See [`Connection`].
pub struct Grant;
/// See [`Connection`].
pub struct CacheHint;

wasmtime::component::bindgen!({
    path: "../../plugin-sdk/wit/0.1.0",
    world: "plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
    with: {
        "wasmqtt:plugin/types.connection": self::Connection,
        "wasmqtt:plugin/types.message": self::Message,
        "wasmqtt:plugin/types.startup": self::Startup,
        "wasmqtt:plugin/types.grant": self::Grant,
        "wasmqtt:plugin/types.cache-hint": self::CacheHint,
    },
});
