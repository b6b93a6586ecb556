//! The plugins of one configuration, proved to start: what is shared by all who call them.
//! What must not live here: calls on the packet path, which are the workers'.

use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use wasmqtt_core::hook::{AuthenticateRequest, ChainMask, Denial, ExchangeRequest};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::topic::TopicFilter;

use crate::answer::{AuthVerdict, ExchangeVerdict};
use crate::auth_pool::AuthPool;
use crate::breaker::{Admission, Breaker};
use crate::builder::Builder;
use crate::clock::thread_cpu;
use crate::fault::{Fault, FaultKind};
use crate::fault_log::FaultLog;
use crate::instance::Instance;
use crate::limits::{Limits, PREFILTER_TOPICS_MAX, PUBLISH_CHAIN_MAX};
use crate::manifest::Hook;
use crate::plugin::Plugin;
use crate::services::Services;
use crate::state::Identity;
use crate::stats::{Counters, PluginStats, sum};
use crate::worker::WorkerPlugins;

/// What a message meets when an `on-publish` plugin fails. Identity and access have no such
/// choice: there a fault is a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFault {
    /// The message is refused.
    #[default]
    Refuse,
    /// The message goes on as if the plugin had not been asked.
    Pass,
}

/// One plugin as the operator set it up.
#[derive(Clone)]
pub struct PluginSetup {
    /// The plugin's name in the configuration; unique.
    pub name: Arc<str>,
    /// What to run.
    pub plugin: Arc<Plugin>,
    /// An object that the plugin's schema allows.
    pub config: serde_json::Value,
    /// For `on-publish` only.
    pub on_fault: OnFault,
    /// Upper bounds; the manifest may ask for less.
    pub limits: Limits,
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// Instead of the manifest's topic filters for `on-publish`.
    pub topics: Option<Vec<TopicFilter>>,
}

/// Why a set of plugins is not activated; what runs stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ActivateError {
    /// Two plugins have one name.
    #[error("two plugins are named `{name}`")]
    SameName {
        /// The name.
        name: Arc<str>,
    },
    /// The configuration is not what the plugin's schema allows.
    #[error("plugin `{name}`: its configuration does not fit: {text}")]
    Config {
        /// The plugin.
        name: Arc<str>,
        /// What is wrong, and where.
        text: String,
    },
    /// The plugin does not start; the text is its own, or says what it ran into.
    #[error("plugin `{name}` does not start: {text}")]
    Start {
        /// The plugin.
        name: Arc<str>,
        /// Why.
        text: String,
    },
    /// The order of a hook names a plugin that is not there or does not take part.
    #[error("`{name}` is not a plugin that takes part in {hook}")]
    NoSuchHook {
        /// The name in the order.
        name: Arc<str>,
        /// The hook.
        hook: Hook,
    },
    /// More plugins than a chain takes.
    #[error("the on-publish chain takes {PUBLISH_CHAIN_MAX} plugins")]
    ChainTooLong,
    /// More topic filters than a plugin may have.
    #[error("plugin `{name}`: more than {PREFILTER_TOPICS_MAX} topic filters")]
    TooManyTopics {
        /// The plugin.
        name: Arc<str>,
    },
    /// The thread that starts instances can't be started.
    #[error("the thread that starts plugin instances does not start: {0}")]
    Thread(String),
}

/// A plugin's place in the set that it was found in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PluginIndex(pub(crate) usize);

/// A set of active plugins. Shared by all threads of the broker; each worker has its own
/// [`WorkerPlugins`].
pub struct ActivePlugins {
    shared: Arc<Shared>,
    /// Only if some plugin's `init` is slow.
    builder: Option<Builder>,
}

/// What the set and its workers share.
pub(crate) struct Shared {
    pub(crate) plugins: Vec<Arc<Active>>,
    /// The on-publish chain: bit `i` of a [`ChainMask`] is its `i`th plugin.
    pub(crate) chain: Vec<usize>,
}

impl ActivePlugins {
    /// Proves that every plugin starts: an instance is made and its `init` run, on this thread. So
    /// call this from a thread that may be busy for a while. `publish_order` names the plugins of
    /// the on-publish chain, in order.
    ///
    /// # Errors
    /// The first plugin that can't be activated, and why.
    pub fn activate(
        services: &Services,
        setups: Vec<PluginSetup>,
        publish_order: &[Arc<str>],
    ) -> Result<Self, ActivateError> {
        let mut plugins: Vec<Arc<Active>> = Vec::with_capacity(setups.len());
        for setup in setups {
            if plugins.iter().any(|other| other.identity.name == setup.name) {
                return Err(ActivateError::SameName { name: setup.name });
            }
            plugins.push(Arc::new(Active::prove(services, setup)?));
        }
        let chain = publish_order.iter().map(|name| {
            find(&plugins, name, Hook::OnPublish).ok_or_else(|| ActivateError::NoSuchHook {
                name: Arc::clone(name),
                hook: Hook::OnPublish,
            })
        });
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        if chain.len() > PUBLISH_CHAIN_MAX {
            return Err(ActivateError::ChainTooLong);
        }
        let builder =
            Builder::start(&plugins).map_err(|error| ActivateError::Thread(error.to_string()))?;
        Ok(Self { shared: Arc::new(Shared { plugins, chain }), builder })
    }

    /// The plugin of that name, if it takes part in that hook.
    #[must_use]
    pub fn find(&self, name: &str, hook: Hook) -> Option<PluginIndex> {
        find(&self.shared.plugins, name, hook).map(PluginIndex)
    }

    /// The instances of one worker. They are made here, so call this where a plugin's `init` may
    /// take its time, and send the result to the worker's thread.
    #[must_use]
    pub fn worker(&self) -> WorkerPlugins {
        WorkerPlugins::new(&self.shared, self.builder.as_ref().map(Builder::requests))
    }

    /// Which plugins of the on-publish chain a topic concerns.
    #[must_use]
    pub fn chain_mask(&self, topic: &str) -> ChainMask {
        self.shared.chain_mask(topic)
    }

    /// Asks a plugin who a connection is. Blocks for up to
    /// [`Limits::authenticate_wall`] while all its instances are busy, and for the plugin's CPU
    /// budget: call it on a thread of your own, with as many at a time as you can spare.
    /// Any fault is a refusal with Server unavailable.
    #[must_use]
    pub fn authenticate(&self, plugin: PluginIndex, request: &AuthenticateRequest) -> AuthVerdict {
        let answer = match self.shared.plugins.get(plugin.0) {
            Some(active) => {
                let ask = |instance: &mut Instance, wall| instance.authenticate(request, wall);
                active.authenticators.call(active, Hook::Authenticate, ask)
            }
            None => Err(FaultKind::NotReady),
        };
        answer.unwrap_or(AuthVerdict::Deny(Denial::new(ReasonCode::ServerUnavailable)))
    }

    /// Asks a plugin for one step of an exchange of AUTH packets; for the rest as
    /// [`Self::authenticate`].
    #[must_use]
    pub fn exchange(&self, plugin: PluginIndex, request: &ExchangeRequest) -> ExchangeVerdict {
        let answer = match self.shared.plugins.get(plugin.0) {
            Some(active) => {
                let ask = |instance: &mut Instance, wall| instance.exchange(request, wall);
                active.authenticators.call(active, Hook::AuthExchange, ask)
            }
            None => Err(FaultKind::NotReady),
        };
        answer.unwrap_or(ExchangeVerdict::Deny(Denial::new(ReasonCode::ServerUnavailable)))
    }

    /// What each plugin did since it was activated.
    #[must_use]
    pub fn stats(&self) -> Vec<PluginStats> {
        self.shared.plugins.iter().map(|active| active.stats()).collect()
    }
}

impl Shared {
    pub(crate) fn chain_mask(&self, topic: &str) -> ChainMask {
        let mut mask = 0;
        for (bit, index) in self.chain.iter().enumerate() {
            if self.plugins[*index].wants(topic) {
                mask |= 1 << bit;
            }
        }
        ChainMask(mask)
    }
}

fn find(plugins: &[Arc<Active>], name: &str, hook: Hook) -> Option<usize> {
    plugins
        .iter()
        .position(|active| *active.identity.name == *name && active.plugin.hooks().contains(&hook))
}

/// One active plugin, as all its callers share it.
pub(crate) struct Active {
    pub(crate) identity: Arc<Identity>,
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) on_fault: OnFault,
    pub(crate) breaker: Breaker,
    /// `init` takes so little that a worker may run it.
    pub(crate) has_fast_init: bool,
    /// Started instances that nobody uses yet.
    pub(crate) spares: Mutex<Vec<Instance>>,
    topics: Vec<TopicFilter>,
    authenticators: AuthPool,
    services: Services,
    /// One for each worker, one for the authenticators.
    counters: Mutex<Vec<Arc<Counters>>>,
    fault_log: FaultLog,
}

impl Active {
    fn prove(services: &Services, setup: PluginSetup) -> Result<Self, ActivateError> {
        let PluginSetup { name, plugin, config, on_fault, limits, tenant, topics } = setup;
        plugin
            .check_config(&config)
            .map_err(|text| ActivateError::Config { name: Arc::clone(&name), text })?;
        let manifest = plugin.manifest();
        let topics = topics.unwrap_or_else(|| manifest.topics.clone());
        if topics.len() > PREFILTER_TOPICS_MAX {
            return Err(ActivateError::TooManyTopics { name });
        }
        let identity = Arc::new(Identity {
            services: services.of(&tenant, &name),
            name: Arc::clone(&name),
            tenant,
            config: config.to_string(),
            limits: limits.lowered(manifest.memory_bytes, manifest.call_cpu),
        });
        let before = thread_cpu();
        let proof = Instance::start(&plugin, &identity, identity.limits.init_cpu)
            .map_err(|fault| ActivateError::Start { name, text: fault.text })?;
        let took = thread_cpu().saturating_sub(before);
        let has_fast_init = took <= identity.limits.inline_init_cpu;
        let counters = Arc::new(Counters::default());
        Ok(Self {
            identity,
            on_fault,
            breaker: Breaker::default(),
            has_fast_init,
            spares: Mutex::new(vec![proof]),
            topics,
            authenticators: AuthPool::new(Arc::clone(&counters)),
            services: services.clone(),
            counters: Mutex::new(vec![counters]),
            fault_log: FaultLog::default(),
            plugin,
        })
    }

    /// Whether `on-publish` is to see messages of that topic.
    pub(crate) fn wants(&self, topic: &str) -> bool {
        self.topics.iter().any(|filter| filter.matches(topic))
    }

    pub(crate) fn take_spare(&self) -> Option<Instance> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// An instance that was started before or is started on this thread, however long it takes.
    pub(crate) fn start_instance(&self) -> Result<Instance, Fault> {
        match self.take_spare() {
            Some(instance) => Ok(instance),
            None => Instance::start(&self.plugin, &self.identity, self.identity.limits.init_cpu),
        }
    }

    pub(crate) fn new_counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Arc::clone(&counters));
        counters
    }

    pub(crate) fn admit(&self) -> Admission {
        self.breaker.admit(|| self.services.clock().monotonic())
    }

    /// A probe went well.
    pub(crate) fn close_breaker(&self) {
        self.breaker.close(self.services.clock().monotonic());
        tracing::info!(plugin = %self.identity.name, "plugin works again, quarantine over");
    }

    /// Counts and logs a fault, and lets the breaker know if the plugin is to blame. `hook`: none
    /// if it happened between calls.
    pub(crate) fn fault(&self, admission: Admission, hook: Option<Hook>, fault: &Fault) {
        let now = self.services.clock().monotonic();
        let plugin = &*self.identity.name;
        let hook = hook.map_or("init", Hook::name);
        if let Some(suppressed) = self.fault_log.admit(now) {
            let kind = fault.kind.name();
            tracing::warn!(plugin, hook, kind, text = %fault.text, suppressed, "plugin fault");
        }
        if !fault.kind.is_plugins() {
            return;
        }
        if let Some(milliseconds) = self.breaker.fault(admission, now) {
            tracing::warn!(plugin, milliseconds, "too many faults: plugin in quarantine");
        }
    }

    fn stats(&self) -> PluginStats {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let hooks = self.plugin.hooks().iter();
        PluginStats {
            name: Arc::clone(&self.identity.name),
            is_quarantined: self.breaker.is_open(),
            hooks: hooks.map(|hook| sum(counters.iter().map(Arc::as_ref), *hook)).collect(),
        }
    }
}
