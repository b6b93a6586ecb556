//! The plugins of the configuration, activated, and each worker's way to them.
//! What must not live here: how a plugin is called (the host).

use std::sync::Arc;

use wasmqtt_core::action::{AccessOrder, AccessStep as CoreStep};
use wasmqtt_core::hook::{
    AuthorizeAnswer, AuthorizeRequest, ChainMask, Denial, OnPublishRequest, PublishVerdict, Verdict,
};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_host::active::{
    ActivateError, ActivePlugins, OnFault as HostOnFault, PluginIndex, PluginSetup,
};
use wasmqtt_host::limits::Limits;
use wasmqtt_host::manifest::Hook;
use wasmqtt_host::services::Services;
use wasmqtt_host::worker::WorkerPlugins;

use crate::config::plan::PlannedPlugin;
use crate::config::{AccessStep, Config, OnFault};

/// All active plugins, and the access order in their numbers.
#[derive(Clone)]
pub(crate) struct Hooks {
    pub(crate) active: Arc<ActivePlugins>,
    /// What the core calls "plugin n".
    authorizers: Arc<[PluginIndex]>,
    pub(crate) access: AccessOrder,
}

impl Hooks {
    /// Starts every plugin once, to prove that it starts.
    pub(crate) fn activate(
        config: &Config,
        plugins: &[PlannedPlugin],
        tenant: &Arc<str>,
    ) -> Result<Self, ActivateError> {
        let setups = plugins.iter().filter_map(|planned| {
            let settings = config.plugins.get(&planned.name)?;
            Some(PluginSetup {
                name: Arc::clone(&planned.name),
                plugin: Arc::clone(&planned.plugin),
                config: settings.config.clone().into(),
                on_fault: match settings.on_fault {
                    OnFault::Refuse => HostOnFault::Refuse,
                    OnFault::Pass => HostOnFault::Pass,
                },
                limits: Limits {
                    payload_bytes_max: config.limits.packet_bytes_max as usize,
                    ..Limits::default()
                },
                tenant: Arc::clone(tenant),
                topics: settings.topics.clone(),
            })
        });
        let active =
            ActivePlugins::activate(&Services::new(), setups.collect(), &config.publish_order)?;
        let mut authorizers = Vec::new();
        let mut access = Vec::new();
        for step in &config.access_order {
            access.push(match step {
                AccessStep::Rules => CoreStep::Rules,
                AccessStep::Plugin(name) => {
                    let index = active.find(name, Hook::Authorize).ok_or_else(|| {
                        ActivateError::NoSuchHook { name: Arc::clone(name), hook: Hook::Authorize }
                    })?;
                    authorizers.push(index);
                    CoreStep::Plugin(u16::try_from(authorizers.len() - 1).unwrap_or(u16::MAX))
                }
            });
        }
        let (active, access) = (Arc::new(active), access.into());
        Ok(Self { active, authorizers: authorizers.into(), access })
    }

    /// The instances of one worker.
    pub(crate) fn for_worker(&self) -> WorkerHooks {
        WorkerHooks { plugins: self.active.worker(), authorizers: Arc::clone(&self.authorizers) }
    }
}

/// One worker's instances.
pub(crate) struct WorkerHooks {
    plugins: WorkerPlugins,
    authorizers: Arc<[PluginIndex]>,
}

impl WorkerHooks {
    pub(crate) fn authorize(
        &mut self,
        plugin: u16,
        request: &AuthorizeRequest<'_>,
    ) -> AuthorizeAnswer {
        match self.authorizers.get(usize::from(plugin)) {
            Some(index) => self.plugins.authorize(*index, request),
            None => AuthorizeAnswer {
                verdict: Verdict::Deny(Denial::new(ReasonCode::UnspecifiedError)),
                ttl_ms: 0,
            },
        }
    }

    pub(crate) fn on_publish(&mut self, request: &OnPublishRequest<'_>) -> PublishVerdict {
        self.plugins.on_publish(request)
    }

    pub(crate) fn chain_mask(&self, topic: &str) -> ChainMask {
        self.plugins.chain_mask(topic)
    }
}
