//! `wasmqtt status`: what a running broker says about itself.
//! What must not live here: how the numbers come about.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::failure::Failure;
use crate::cli::output::{duration, json, say};
use crate::cli::session::{Needs, Session};
use crate::instance::{Layout, LockState, probe};
use crate::service::view::Status;

/// Shows what the broker of `directory` does; exit code 1 when none runs.
pub(crate) async fn status(directory: &Path, as_json: bool) -> Result<ExitCode, Failure> {
    if !is_running(directory)? {
        if as_json {
            json(&serde_json::json!({ "running": false }))?;
            return Ok(ExitCode::FAILURE);
        }
        return Err(nobody(directory));
    }
    let session = Session::open(directory, Needs::Directory).await?;
    let status: Status = session.get("/v1/status").await?;
    if as_json {
        json(&status)?;
    } else {
        show(&status)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a broker runs in `directory`.
pub(super) fn is_running(directory: &Path) -> Result<bool, Failure> {
    Ok(matches!(probe(&Layout::new(directory))?, LockState::Broker(_)))
}

/// None does.
pub(super) fn nobody(directory: &Path) -> Failure {
    let shown = directory.display();
    Failure::refused(format!("no broker runs in {shown}"))
        .hint(format!("start it: wasmqtt run {shown}"))
}

fn show(status: &Status) -> Result<(), Failure> {
    let Status { version, pid, uptime_seconds, workers, listeners, counters } = status;
    let up = duration(*uptime_seconds);
    let threads = if *workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
    say(format!("wasmqtt {version} runs for {up} (pid {pid}, {threads})"))?;
    for listener in listeners {
        say(format!("  listens on {} (listener {})", listener.url, listener.name))?;
    }
    let width = counters.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, count) in counters {
        say(format!("  {:width$}  {count}", name.replace('_', " ")))?;
    }
    Ok(())
}
