//! The socket that a running broker answers the command line on.
//! What must not live here: what is answered.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::instance::Instance;

/// How long requests may take when the broker stops.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// The admin interface while it is served.
#[derive(Debug)]
pub(crate) struct AdminServer {
    path: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

/// Serves `router` on the instance's socket, from inside the control runtime. A socket file that a
/// dead broker left is replaced: the instance's lock says that nobody listens on it.
pub(crate) fn start(instance: &Instance, router: Router) -> anyhow::Result<AdminServer> {
    let path = instance.layout.admin_sock();
    let shown = path.display();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("can't remove the old {shown}"));
        }
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| {
        format!("can't listen on {shown} (the path of a socket has at most 107 bytes)")
    })?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))
        .with_context(|| format!("can't make {shown} private"))?;
    let (stop, stopped) = oneshot::channel::<()>();
    let serve = axum::serve(listener, router).with_graceful_shutdown(async move {
        // A sender that is gone stops it just as well.
        let _ = stopped.await;
    });
    let task = tokio::spawn(async move { serve.await });
    Ok(AdminServer { path, stop, task })
}

impl AdminServer {
    /// Lets the requests under way end, within a bound, then takes the socket away.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(());
        let task = self.task.abort_handle();
        let served = tokio::time::timeout(LAST_REQUESTS, self.task).await;
        let _ = fs::remove_file(&self.path);
        match served {
            Ok(served) => {
                served.context("the admin interface died")?.context("the admin interface failed")
            }
            Err(_) => {
                // Somebody does not finish a request, or does not take the answer.
                task.abort();
                Ok(())
            }
        }
    }
}
