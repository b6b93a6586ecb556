//! What wasmtime generates from contract version 0.2.0, on top of 0.1.0.
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
pub struct Exchange;

wasmtime::component::bindgen!({
    path: ["../../plugin-sdk/wit/0.1.0", "../../plugin-sdk/wit/0.2.0"],
    world: "wasmqtt:plugin/additions@0.2.0",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
    with: {
        "wasmqtt:plugin/types@0.1.0": crate::trusted::bindings::wasmqtt::plugin::types,
        "wasmqtt:plugin/exchanges.exchange": self::Exchange,
    },
});
