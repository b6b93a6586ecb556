//! Engines, plugins, requests and a clock for tests.
//! What must not live here: tests.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use serde_json::Value;
use wasmqtt_core::hook::{
    AccessAction, AuthenticateRequest, AuthorizeAnswer, AuthorizeRequest, ChainMask,
    ConnectionFacts, OnPublishRequest, Principal, PublishVerdict,
};
use wasmqtt_core::message::{MessageRef, QoS};
use wasmqtt_core::reason::Version;
use wasmqtt_core::time::Millis;
use wasmqtt_host::active::{ActivateError, ActivePlugins, OnFault, PluginSetup};
use wasmqtt_host::answer::AuthVerdict;
use wasmqtt_host::clock::Clock;
use wasmqtt_host::engine::Engine;
use wasmqtt_host::fault::FaultKind;
use wasmqtt_host::limits::Limits;
use wasmqtt_host::manifest::{Hook, SECTION};
use wasmqtt_host::plugin::Plugin;
use wasmqtt_host::services::Services;
use wasmqtt_host::worker::WorkerPlugins;

/// The fixture with all modes of misbehaviour.
pub(crate) const MISBEHAVE: &str = "fixtures/misbehave/misbehave";
/// The fixture with known amounts of work.
pub(crate) const COST: &str = "fixtures/cost/cost";
/// The fixture without an opinion.
pub(crate) const MINIMAL: &str = "fixtures/minimal/minimal";

pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new().unwrap());

/// The bytes of `plugins/NAME.wasm`.
#[track_caller]
pub(crate) fn component(name: &str) -> Vec<u8> {
    let plugins = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let path = plugins.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `plugins/NAME.wasm`, compiled once for all tests.
#[track_caller]
pub(crate) fn plugin(name: &str) -> Arc<Plugin> {
    static PLUGINS: LazyLock<Mutex<HashMap<String, Arc<Plugin>>>> = LazyLock::new(Mutex::default);
    let mut plugins = PLUGINS.lock().unwrap();
    let plugin = plugins
        .entry(name.to_owned())
        .or_insert_with(|| Plugin::load(&ENGINE, &component(name)).unwrap());
    Arc::clone(plugin)
}

/// The component with this manifest instead of its own.
pub(crate) fn with_manifests(component: &[u8], manifests: &[&str]) -> Vec<u8> {
    let (head, mut rest) = component.split_at(8);
    let mut bytes = head.to_vec();
    while let Some((id, after)) = rest.split_first() {
        let (length, digits) = leb128(after);
        let section = &rest[..1 + digits + length];
        let is_manifest = *id == 0 && section[1 + digits + 1..].starts_with(SECTION.as_bytes());
        if !is_manifest {
            bytes.extend(section);
        }
        rest = &rest[section.len()..];
    }
    for manifest in manifests {
        let mut content = vec![u8::try_from(SECTION.len()).unwrap()];
        content.extend(SECTION.as_bytes());
        content.extend(manifest.as_bytes());
        let length = u32::try_from(content.len()).unwrap();
        bytes.push(0);
        bytes.extend([0, 7, 14, 21].map(|shift| (length >> shift & 0x7f) as u8 | 0x80));
        bytes.push(0);
        bytes.extend(content);
    }
    bytes
}

fn leb128(bytes: &[u8]) -> (usize, usize) {
    let digits = bytes.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let digit = |index: usize| usize::from(bytes[index] & 0x7f) << (7 * index);
    ((0..digits).map(digit).sum(), digits)
}

/// A setup with defaults.
#[track_caller]
pub(crate) fn setup(name: &str, component: &str, config: Value) -> PluginSetup {
    PluginSetup {
        name: Arc::from(name),
        plugin: plugin(component),
        config,
        on_fault: OnFault::Refuse,
        limits: Limits::default(),
        tenant: Arc::from("default"),
        topics: None,
    }
}

/// A clock that stands until it is moved.
#[derive(Default)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Millis {
        Millis(self.0.load(Ordering::Relaxed))
    }
}

/// Active plugins with one worker on this thread.
pub(crate) struct Bench {
    pub(crate) active: ActivePlugins,
    pub(crate) worker: WorkerPlugins,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) connection: Arc<ConnectionFacts>,
    pub(crate) principal: Arc<Principal>,
}

impl Bench {
    /// All plugins that take part in on-publish are in the chain, in the order given.
    #[track_caller]
    pub(crate) fn new(setups: Vec<PluginSetup>) -> Self {
        Self::try_new(setups).unwrap()
    }

    pub(crate) fn try_new(setups: Vec<PluginSetup>) -> Result<Self, ActivateError> {
        let clock = Arc::new(TestClock::default());
        let services = Services::with_clock(Arc::<TestClock>::clone(&clock));
        let chain: Vec<_> = setups
            .iter()
            .filter(|setup| setup.plugin.hooks().contains(&Hook::OnPublish))
            .map(|setup| Arc::clone(&setup.name))
            .collect();
        let active = ActivePlugins::activate(&services, setups, &chain)?;
        let principal = Principal { name: Some(Arc::from("alice")), ..Principal::default() };
        Ok(Self {
            worker: active.worker(),
            active,
            clock,
            connection: Arc::new(connection("device-1")),
            principal: Arc::new(principal),
        })
    }

    #[track_caller]
    pub(crate) fn authenticate(&self, plugin: &str, password: Option<&[u8]>) -> AuthVerdict {
        let index = self.active.find(plugin, Hook::Authenticate).unwrap();
        let connection = Arc::clone(&self.connection);
        let password = password.map(Box::from);
        self.active.authenticate(index, &AuthenticateRequest { connection, password })
    }

    #[track_caller]
    pub(crate) fn authorize(
        &mut self,
        plugin: &str,
        action: AccessAction,
        topic: &str,
    ) -> AuthorizeAnswer {
        let index = self.active.find(plugin, Hook::Authorize).unwrap();
        let request = AuthorizeRequest {
            connection: &self.connection,
            principal: &self.principal,
            action,
            topic,
            qos: QoS::AtLeastOnce,
            retain: false,
            payload_length: 5,
        };
        self.worker.authorize(index, &request)
    }

    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) -> PublishVerdict {
        let chain = self.active.chain_mask(topic);
        self.publish_to(chain, topic, payload)
    }

    pub(crate) fn publish_to(
        &mut self,
        chain: ChainMask,
        topic: &str,
        payload: &[u8],
    ) -> PublishVerdict {
        self.worker.on_publish(&OnPublishRequest {
            connection: &self.connection,
            principal: &self.principal,
            chain,
            message: MessageRef {
                topic,
                payload,
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: &[],
                expires_at: Millis::NEVER,
                publisher: None,
            },
        })
    }

    /// Calls and faults of a plugin's hook so far.
    #[track_caller]
    pub(crate) fn counted(&self, plugin: &str, hook: Hook) -> (u64, Vec<(FaultKind, u64)>) {
        let stats = self.active.stats();
        let plugin = stats.iter().find(|stats| *stats.name == *plugin).unwrap();
        let hook = plugin.hooks.iter().find(|stats| stats.hook == hook).unwrap();
        (hook.calls, hook.faults.clone())
    }
}

pub(crate) fn connection(client_id: &str) -> ConnectionFacts {
    ConnectionFacts {
        tenant: Arc::from("default"),
        client_id: Arc::from(client_id),
        username: Some(Box::from("alice")),
        listener: Arc::from("mqtt"),
        peer: Box::from("127.0.0.1:50000"),
        version: Version::V5,
        clean_start: true,
        keep_alive_seconds: 60,
        tls: None,
    }
}
