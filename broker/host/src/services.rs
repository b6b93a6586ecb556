//! Host services: what plugins may use of the broker, and what of it lasts across a reload.
//! What must not live here: the contract's types.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Clock, SystemClock};

mod kv;
mod log;

pub(crate) use kv::{Kv, KvError};
pub(crate) use log::{LogGate, LogLevel};

/// The services of one process: a cheap clone. Key-value stores live as long as this does, so that
/// a plugin that is loaded again finds its keys.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

type TenantAndName = (Arc<str>, Arc<str>);

struct Inner {
    clock: Arc<dyn Clock>,
    plugins: Mutex<HashMap<TenantAndName, Arc<PluginServices>>>,
}

impl Services {
    /// Services on the operating system's clocks.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// Services on a clock of the caller's.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { clock, plugins: Mutex::default() }))
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    pub(crate) fn of(&self, tenant: &Arc<str>, plugin: &Arc<str>) -> Arc<PluginServices> {
        let mut plugins = self.0.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let services =
            plugins.entry((Arc::clone(tenant), Arc::clone(plugin))).or_insert_with(|| {
                Arc::new(PluginServices {
                    clock: Arc::clone(&self.0.clock),
                    kv: Kv::default(),
                    log: LogGate::default(),
                })
            });
        Arc::clone(services)
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new()
    }
}

/// What all instances of one plugin of one tenant share.
pub(crate) struct PluginServices {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) kv: Kv,
    pub(crate) log: LogGate,
}

#[cfg(test)]
mod tests {
    use super::Services;
    use crate::active::{ActivePlugins, OnFault, PluginSetup};
    use crate::engine::Engine;
    use crate::limits::Limits;
    use crate::manifest::Hook;
    use crate::plugin::Plugin;
    use std::sync::Arc;
    use wasmqtt_core::hook::{AuthenticateRequest, ConnectionFacts};
    use wasmqtt_core::reason::Version;
    use wasmqtt_core::time::Millis;

    /// Counts its calls under the key `calls`, in a value of eight bytes.
    fn counting(engine: &Engine) -> Arc<Plugin> {
        let bytes = include_bytes!("../../../plugins/fixtures/cost/cost.wasm");
        Plugin::load(engine, bytes).unwrap()
    }

    fn call(services: &Services, plugin: &Arc<Plugin>, tenant: &str, name: &str, calls: u32) {
        let setup = PluginSetup {
            name: Arc::from(name),
            plugin: Arc::clone(plugin),
            config: serde_json::json!({"mode": "kv"}),
            on_fault: OnFault::Refuse,
            limits: Limits::default(),
            tenant: Arc::from(tenant),
            topics: None,
        };
        let active = ActivePlugins::activate(services, vec![setup], &[]).unwrap();
        let index = active.find(name, Hook::Authenticate).unwrap();
        let connection = Arc::new(ConnectionFacts {
            tenant: Arc::from(tenant),
            client_id: Arc::from("c"),
            username: None,
            listener: Arc::from("l"),
            peer: Box::from("127.0.0.1:1"),
            version: Version::V5,
            clean_start: true,
            keep_alive_seconds: 60,
            tls: None,
        });
        for _ in 0..calls {
            let connection = Arc::clone(&connection);
            let request = AuthenticateRequest { connection, password: None };
            let _ = active.authenticate(index, &request);
        }
    }

    #[test]
    fn keys_belong_to_one_plugin_of_one_tenant_and_outlive_a_reload() {
        let engine = Engine::new().unwrap();
        let services = Services::new();
        let plugin = counting(&engine);
        call(&services, &plugin, "tenant", "a", 2);
        call(&services, &plugin, "tenant", "b", 1);
        call(&services, &plugin, "other", "a", 5);
        call(&services, &plugin, "tenant", "a", 1);
        let count = |tenant: &str, name: &str| {
            let store = services.of(&Arc::from(tenant), &Arc::from(name));
            let bytes = store.kv.get("calls", Millis(0)).unwrap();
            u64::from_le_bytes(bytes.try_into().unwrap())
        };
        assert_eq!(count("tenant", "a"), 3);
        assert_eq!(count("tenant", "b"), 1);
        assert_eq!(count("other", "a"), 5);
    }
}
