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

struct Inner {
    clock: Arc<dyn Clock>,
    /// By tenant and plugin name.
    plugins: Mutex<HashMap<(Arc<str>, Arc<str>), Arc<PluginServices>>>,
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
        Self(Arc::new(Inner {
            clock,
            plugins: Mutex::default(),
        }))
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    pub(crate) fn of(&self, tenant: &Arc<str>, plugin: &Arc<str>) -> Arc<PluginServices> {
        let mut plugins = self
            .0
            .plugins
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let services = plugins
            .entry((Arc::clone(tenant), Arc::clone(plugin)))
            .or_insert_with(|| {
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
