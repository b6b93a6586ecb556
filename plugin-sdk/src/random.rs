//! Host service `random`: randomness. Ask for it with `capabilities = ["random"]`.

#[cfg(target_arch = "wasm32")]
use crate::bindings::additions::wasmqtt::plugin0_2_0::random as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::mock::backend as host;

/// Bytes that nobody can guess, at most 1024 at a time. In tests they are the same each time.
pub fn bytes(length: u32) -> Vec<u8> {
    host::bytes(length)
}
