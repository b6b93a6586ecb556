//! libFuzzer on the target that `WASMQTT_FUZZ_TARGET` names.
//! What must not live here: what must hold.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<wasmqtt_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("WASMQTT_FUZZ_TARGET").unwrap_or_default();
    wasmqtt_fuzz::target(&name).expect("WASMQTT_FUZZ_TARGET names a target")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (TARGET.run)(bytes);
});
