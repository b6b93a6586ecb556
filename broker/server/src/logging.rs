//! Where log lines go and how they look.
//! What must not live here: what is logged.

use std::io::IsTerminal;
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{LogConfig, LogFormat, LogLevel};

use self::lines::Lines;

mod lines;

/// Overrides `log.level`: `debug`, or per part as in `info,wasmqtt_host=trace`.
const VARIABLE: &str = "WASMQTT_LOG";

/// What takes the lines, from [`start`] on.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// Starts logging to stderr; to be called once, before anything is worth a line.
pub(crate) fn start(config: LogConfig) -> anyhow::Result<()> {
    let filter = filter(config.level, std::env::var(VARIABLE).ok().as_deref())?;
    let lines = Lines::start(std::io::stderr()).context("can't start logging")?;
    let lines = Arc::clone(LINES.get_or_init(|| lines));
    let log = fmt().with_env_filter(filter).with_writer(lines);
    let started = match config.format {
        LogFormat::Pretty => {
            log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
        }
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("can't start logging: {error}"))
}

/// Writes the lines that are still on their way.
pub(crate) fn finish() {
    if let Some(lines) = LINES.get() {
        lines.finish();
    }
}

/// The variable where it is set, else the level; libraries speak up from `warn` only.
fn filter(level: LogLevel, variable: Option<&str>) -> anyhow::Result<EnvFilter> {
    if let Some(text) = variable.filter(|text| !text.trim().is_empty()) {
        return EnvFilter::builder().parse(text).with_context(|| {
            format!(
                "{VARIABLE}={text} is not usable; write it like debug or info,wasmqtt_host=trace"
            )
        });
    }
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let libraries = if level == "error" { "error" } else { "warn" };
    let ours = ["wasmqtt", "wasmqtt_core", "wasmqtt_host", "wasmqtt_store"];
    let mut text = libraries.to_owned();
    for name in ours {
        text.push_str(&format!(",{name}={level}"));
    }
    EnvFilter::builder().parse(&text).context("the filter of a level is well-formed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_a_filter() {
        for level in
            [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace]
        {
            filter(level, None).unwrap();
        }
        assert_eq!(filter(LogLevel::Info, Some("debug")).unwrap().to_string(), "debug");
    }

    #[test]
    fn a_filter_that_is_not_one_says_how_to_write_it() {
        let error = filter(LogLevel::Info, Some("wasmqtt=loud")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "WASMQTT_LOG=wasmqtt=loud is not usable; write it like debug or info,wasmqtt_host=trace"
        );
    }
}
