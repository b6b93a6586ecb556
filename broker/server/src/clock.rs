//! The only clock of the broker's own code.
//! What must not live here: anything else.

use std::sync::OnceLock;
use std::time::Instant;

use wasmqtt_core::time::Millis;

static START: OnceLock<Instant> = OnceLock::new();

/// Milliseconds since the process first asked.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Millis {
    let start = START.get_or_init(Instant::now);
    Millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}
