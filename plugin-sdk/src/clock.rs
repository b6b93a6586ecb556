//! Host service `clock`: the time. Ask for it with `capabilities = ["clock"]`; `std::time` does not
//! work inside a component.

#[cfg(target_arch = "wasm32")]
use crate::bindings::imports::wasmqtt::plugin::clock as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::mock::backend as host;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub fn now_unix_ms() -> u64 {
    host::now_unix_ms()
}

/// Milliseconds of a clock that never goes back; its zero means nothing.
pub fn monotonic_ms() -> u64 {
    host::monotonic_ms()
}
