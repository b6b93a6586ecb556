//! Log lines of plugins: cut, cleaned and counted before they reach the broker's log.
//! What must not live here: the broker's own log lines.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use wasmqtt_core::time::Millis;

use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_PER_SECOND_MAX};

/// The part of the log that plugins write; begins with the crate's name, as log filters go by that.
const TARGET: &str = "wasmqtt_host::plugin_log";

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// Lets so many lines a second through.
#[derive(Default)]
pub(crate) struct LogGate(Mutex<Window>);

#[derive(Default)]
struct Window {
    second: u64,
    lines: u32,
    suppressed: u64,
}

impl LogGate {
    pub(crate) fn log(
        &self,
        now: Millis,
        tenant: &str,
        plugin: &str,
        level: LogLevel,
        message: &str,
    ) {
        let Some(suppressed) = self.admit(now) else {
            return;
        };
        if suppressed > 0 {
            tracing::warn!(target: TARGET, tenant, plugin, suppressed, "log lines left out");
        }
        let message = clean(message);
        match level {
            LogLevel::Debug => tracing::debug!(target: TARGET, tenant, plugin, "{message}"),
            LogLevel::Info => tracing::info!(target: TARGET, tenant, plugin, "{message}"),
            LogLevel::Warn => tracing::warn!(target: TARGET, tenant, plugin, "{message}"),
            LogLevel::Error => tracing::error!(target: TARGET, tenant, plugin, "{message}"),
        }
    }

    /// None: leave the line out; else how many were left out before it.
    fn admit(&self, now: Millis) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let second = now.0 / 1_000;
        if window.second != second {
            window.second = second;
            window.lines = 0;
        }
        if window.lines >= LOG_LINES_PER_SECOND_MAX {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

/// One line of bounded length without control characters: a plugin can't forge lines of the log.
fn clean(message: &str) -> String {
    let cut = &message[..message.floor_char_boundary(LOG_LINE_BYTES_MAX)];
    let mut clean = String::with_capacity(cut.len());
    for character in cut.chars() {
        if character.is_control() {
            // Writing to a String can't fail.
            let _ = write!(clean, "{}", character.escape_default());
        } else {
            clean.push(character);
        }
    }
    if cut.len() < message.len() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::{LogGate, clean};
    use crate::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_PER_SECOND_MAX};
    use wasmqtt_core::time::Millis;

    #[test]
    fn lines_above_the_rate_are_left_out_and_counted() {
        let gate = LogGate::default();
        for _ in 0..LOG_LINES_PER_SECOND_MAX {
            assert_eq!(gate.admit(Millis(5_999)), Some(0));
        }
        assert_eq!(gate.admit(Millis(5_999)), None);
        assert_eq!(gate.admit(Millis(5_999)), None);
        assert_eq!(gate.admit(Millis(6_000)), Some(2));
        assert_eq!(gate.admit(Millis(6_000)), Some(0));
    }

    #[test]
    fn a_line_is_cut_at_a_character_and_can_not_forge_another() {
        assert_eq!(clean("a\nERROR b\u{1b}[0m"), "a\\nERROR b\\u{1b}[0m");
        let long = "é".repeat(LOG_LINE_BYTES_MAX);
        assert_eq!(clean(&long).len(), LOG_LINE_BYTES_MAX + '…'.len_utf8());
    }
}
