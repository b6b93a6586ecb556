//! Host service `kv`: a small key-value store per plugin and tenant, in the broker's memory, shared
//! by the plugin's instances and empty after a restart. Ask for it with `capabilities = ["kv"]`.

use std::fmt;

#[cfg(target_arch = "wasm32")]
use crate::bindings::imports::wasmqtt::plugin::kv as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::mock::backend as host;

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The key or the value is longer than the broker allows.
    TooLarge,
    /// The plugin's quota of keys or bytes is used up.
    QuotaExceeded,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::TooLarge => "the key or the value is longer than the broker allows",
            Error::QuotaExceeded => "the plugin's quota of keys or bytes is used up",
        })
    }
}

impl std::error::Error for Error {}

/// The value stored under `key`.
pub fn get(key: &str) -> Option<Vec<u8>> {
    host::get(key)
}

/// Stores a value that lives `ttl_ms` milliseconds, or until it is removed.
///
/// # Errors
/// [`Error`] when it does not fit; what was stored before stays.
pub fn set(key: &str, value: &[u8], ttl_ms: Option<u32>) -> Result<(), Error> {
    let stored = host::set(key, value, ttl_ms);
    #[cfg(target_arch = "wasm32")]
    let stored = stored.map_err(|error| match error {
        host::Error::TooLarge => Error::TooLarge,
        host::Error::QuotaExceeded => Error::QuotaExceeded,
    });
    stored
}

/// Removes a key, if it is there.
pub fn remove(key: &str) {
    host::remove(key);
}
