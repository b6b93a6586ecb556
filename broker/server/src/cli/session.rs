//! A way to a broker's service: over its socket while it runs, on its files while it does not.
//! What must not live here: what is asked of the service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use wasmqtt_host::engine::Engine;
use wasmqtt_store::Directory;

use crate::admin::client::{CallError, Client};
use crate::admin::router::router;
use crate::cli::TENANT;
use crate::cli::failure::Failure;
use crate::config::load::load;
use crate::config::plan::load_plugins;
use crate::config::{Config, plan::PlannedPlugin};
use crate::instance::{Holder, Instance, InstanceError, Layout, LockState, probe};
use crate::plugins::Hooks;
use crate::service::{Parts, Service};

/// What a command needs when no broker runs; reading no more than that, a command works although
/// something else is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// `directory.db`.
    Directory,
    /// Also `broker.toml` and the plugins of its orders.
    Plugins,
}

/// An open way, and the lock that it may need.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    _instance: Option<Instance>,
}

/// How long a broker that holds the lock may take to answer, and how often one looks.
const START_WAIT: Duration = Duration::from_secs(5);
const START_POLL: Duration = Duration::from_millis(20);

impl Session {
    /// Finds the way to the broker of `directory`.
    pub(crate) async fn open(directory: &Path, needs: Needs) -> Result<Self, Failure> {
        let layout = Layout::new(directory);
        let started = Instant::now();
        loop {
            let holder = probe(&layout)?;
            let (pid, error) = if let LockState::Broker(pid) = holder {
                match Client::probe(&layout.admin_sock()).await {
                    Ok(()) => {
                        let client = Client::Socket(layout.admin_sock());
                        return Ok(Self { client, _instance: None });
                    }
                    Err(error) => (pid, error.to_string()),
                }
            } else {
                match Instance::open(directory, Holder::Command) {
                    Ok(instance) => return Self::on_files(instance, needs).await,
                    // A broker came in between.
                    Err(InstanceError::LockedByBroker { pid, .. }) => {
                        (pid, "just starting".to_owned())
                    }
                    Err(error) => return Err(error.into()),
                }
            };
            if started.elapsed() >= START_WAIT {
                let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
                let shown = directory.display();
                return Err(Failure::refused(format!(
                    "a broker (pid {pid}) holds {shown}, but does not answer on admin.sock: {error}"
                ))
                .hint("it may be starting, stopping or stuck: look at its log"));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    async fn on_files(instance: Instance, needs: Needs) -> Result<Self, Failure> {
        let Files { config, plugins, hooks } = match needs {
            Needs::Directory => Files::default(),
            Needs::Plugins => load_all(&instance.layout)?,
        };
        let directory = Directory::open(&instance.layout.directory_db()).await?;
        let service = Service::new(Parts {
            directory,
            hash_pool: None,
            config: Arc::new(config),
            plugins: plugins.into(),
            hooks,
            live: None,
        });
        let client = Client::Files(router(Arc::new(service)));
        Ok(Self { client, _instance: Some(instance) })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.client.get(path).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.client.post(path, body).await
    }

    /// `path` is below the tenant, as in `/users`.
    pub(crate) async fn tenant_get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.client.get(&below(path)).await
    }

    pub(crate) async fn tenant_delete<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<T, CallError> {
        self.client.delete(&below(path)).await
    }

    pub(crate) async fn tenant_post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.client.post(&below(path), body).await
    }

    pub(crate) async fn tenant_put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.client.put(&below(path), body).await
    }
}

fn below(path: &str) -> String {
    format!("/v1/tenants/{TENANT}{path}")
}

/// What `broker.toml` says and names.
#[derive(Default)]
struct Files {
    config: Config,
    plugins: Vec<PlannedPlugin>,
    hooks: Option<Hooks>,
}

fn load_all(layout: &Layout) -> Result<Files, Failure> {
    let loaded = load(&layout.broker_toml(), &[])?;
    let engine = Engine::with_code_cache(&layout.code_cache()).map_err(Failure::start)?;
    let (config, plugins, _) = load_plugins(loaded, &engine, &[])?;
    let hooks = Hooks::activate(&config, &plugins, &TENANT.into()).map_err(Failure::start)?;
    Ok(Files { config, plugins, hooks: Some(hooks) })
}
