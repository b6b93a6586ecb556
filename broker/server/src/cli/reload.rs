//! `wasmqtt reload`: a running broker reads its certificates anew.
//! What must not live here: reading them.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::failure::Failure;
use crate::cli::output::{json, note, say};
use crate::cli::session::{Needs, Session};
use crate::cli::status::{is_running, nobody};
use crate::service::view::ReloadedView;

/// Has the broker of `directory` read them; exit code 1 when a listener keeps what it had.
pub(crate) async fn reload(directory: &Path, as_json: bool) -> Result<ExitCode, Failure> {
    if !is_running(directory)? {
        return Err(nobody(directory));
    }
    let session = Session::open(directory, Needs::Directory).await?;
    let reloaded: Vec<ReloadedView> = session.post("/v1/reload", &serde_json::json!({})).await?;
    if as_json {
        json(&reloaded)?;
    } else {
        show(&reloaded)?;
    }
    let has_failed = reloaded.iter().any(|view| view.error.is_some());
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(reloaded: &[ReloadedView]) -> Result<(), Failure> {
    if reloaded.is_empty() {
        say("nothing to reload: no listener has certificates")?;
    }
    for ReloadedView { listener, error, hint, warnings } in reloaded {
        for warning in warnings {
            note(format!("listener {listener}: {warning}"));
        }
        match error {
            None => say(format!("listener {listener}: new connections get what was read"))?,
            Some(error) => {
                note(format!("error: listener {listener} keeps what it had: {error}"));
                if let Some(hint) = hint {
                    note(format!("  help: {hint}"));
                }
            }
        }
    }
    Ok(())
}
