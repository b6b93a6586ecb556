//! A broker for tests: it calls a plugin's hooks natively and says what the broker would have seen.
//! No policy of the real broker is repeated here (no authorization, quotas or topic checks).
//!
//! ```
//! # use wasmqtt_plugin::{mock, CacheHint, Decision, Authorize, Connection, Plugin, Request, Startup};
//! # struct Open;
//! # impl Plugin for Open { fn init(_: &Startup) -> Result<Self, String> { Ok(Open) } }
//! # impl Authorize for Open {
//! #     fn authorize(&mut self, _: &Connection, _: &Request, cache: &CacheHint) -> Decision {
//! #         cache.set_ttl_ms(1000);
//! #         Decision::Allow
//! #     }
//! # }
//! let mut plugin: Open = mock::start("{}").unwrap();
//! let answer = mock::authorize(
//!     &mut plugin,
//!     &mock::Connection::new("device-1"),
//!     &mock::publish("devices/device-1/up"),
//! );
//! assert_eq!(answer.decision, Decision::Allow);
//! assert_eq!(answer.cache_ttl_ms, Some(1000));
//! ```
//!
//! Clock, key-value store and log belong to the thread, so tests that run side by side don't meet.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use crate::hooks::{AuthExchange, Authenticate, Authorize, OnPublish, Plugin};
use crate::kv::Error;
use crate::log::Level;
use crate::types::{
    self, Action, CacheHint, Decision, QoS, Request, Startup, StepDecision, Verdict,
};

/// Longest key and value that [`crate::kv`] takes here, in bytes.
const KV_BYTES_MAX: usize = 64 * 1024;

/// The time every test's clock starts at: 2023-11-14T22:13:20Z.
pub const START_UNIX_MS: u64 = 1_700_000_000_000;

/// Starts a plugin with a configuration, a JSON document, as tenant `default`.
///
/// # Errors
/// What [`Plugin::init`] answers.
pub fn start<P: Plugin>(config: &str) -> Result<P, String> {
    P::init(&Startup(&backend::Startup { config: config.to_owned() }))
}

/// A connection to show to a hook; change its fields freely.
#[derive(Clone, Debug)]
pub struct Connection {
    /// `default` at first.
    pub tenant: String,
    /// The client identifier.
    pub client_id: String,
    /// None at first.
    pub username: Option<String>,
    /// None at first.
    pub principal: Option<String>,
    /// None at first.
    pub roles: Vec<String>,
    /// None at first.
    pub attributes: BTreeMap<String, String>,
    /// `mqtt` at first.
    pub listener: String,
    /// `127.0.0.1:50000` at first.
    pub peer: String,
    /// 5 at first.
    pub protocol_level: u8,
    /// True at first.
    pub clean_start: bool,
    /// 60 at first.
    pub keep_alive_seconds: u16,
}

impl Connection {
    /// A connection of that client.
    pub fn new(client_id: &str) -> Self {
        Connection {
            tenant: "default".to_owned(),
            client_id: client_id.to_owned(),
            username: None,
            principal: None,
            roles: Vec::new(),
            attributes: BTreeMap::new(),
            listener: "mqtt".to_owned(),
            peer: "127.0.0.1:50000".to_owned(),
            protocol_level: 5,
            clean_start: true,
            keep_alive_seconds: 60,
        }
    }
}

/// A message to show to a hook; change its fields freely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The Topic Name.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// QoS 0 at first.
    pub qos: QoS,
    /// False at first.
    pub retain: bool,
    /// None at first.
    pub content_type: Option<String>,
    /// None at first.
    pub user_properties: Vec<(String, String)>,
}

impl Message {
    /// A message with that topic and payload.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Message {
            topic: topic.to_owned(),
            payload: payload.as_ref().to_vec(),
            qos: QoS::AtMostOnce,
            retain: false,
            content_type: None,
            user_properties: Vec::new(),
        }
    }
}

/// A request to publish an empty message.
pub fn publish(topic: &str) -> Request {
    request(Action::Publish, topic)
}

/// A request to subscribe.
pub fn subscribe(topic_filter: &str) -> Request {
    request(Action::Subscribe, topic_filter)
}

/// A request to leave a Will Message.
pub fn will(topic: &str) -> Request {
    request(Action::Will, topic)
}

fn request(action: Action, topic: &str) -> Request {
    let topic = topic.to_owned();
    Request { action, topic, qos: QoS::AtMostOnce, retain: false, payload_length: 0 }
}

/// What came of [`authenticate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// The plugin's answer.
    pub decision: Decision,
    /// What it wrote to the grant, which counts if it allowed.
    pub grant: Granted,
}

/// What a plugin wrote to a grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The principal's name.
    pub principal: Option<String>,
    /// Roles, in the order in which they were added.
    pub roles: Vec<String>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// When the connection ends, in seconds since 1970-01-01T00:00:00Z.
    pub expires_at: Option<u64>,
}

/// Calls the hook.
pub fn authenticate<P: Authenticate>(
    plugin: &mut P,
    connection: &Connection,
    password: Option<&[u8]>,
) -> Authenticated {
    let grant = backend::Grant::default();
    let connection = types::Connection(connection);
    let decision = plugin.authenticate(&connection, password, &types::Grant(&grant));
    Authenticated { decision, grant: grant.0.into_inner() }
}

/// A step of an exchange to show to a hook; change its fields freely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The Authentication Method.
    pub method: String,
    /// None at first.
    pub data: Option<Vec<u8>>,
    /// 0 at first.
    pub step: u32,
    /// False at first.
    pub is_re_authentication: bool,
    /// What was kept at the step before; empty at first.
    pub state: Vec<u8>,
}

impl Exchange {
    /// The first step of that method.
    pub fn new(method: &str) -> Self {
        Exchange {
            method: method.to_owned(),
            data: None,
            step: 0,
            is_re_authentication: false,
            state: Vec::new(),
        }
    }
}

/// What came of [`step`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped {
    /// The plugin's answer.
    pub decision: StepDecision,
    /// What it wrote to the grant, which counts if it allowed.
    pub grant: Granted,
    /// What it wants to see at the next step.
    pub state: Vec<u8>,
}

/// Calls the hook.
pub fn step<P: AuthExchange>(
    plugin: &mut P,
    connection: &Connection,
    exchange: &Exchange,
) -> Stepped {
    let grant = backend::Grant::default();
    let exchange = backend::Exchange { given: exchange.clone(), state: RefCell::new(Vec::new()) };
    let connection = types::Connection(connection);
    let decision = plugin.step(&connection, &types::Exchange(&exchange), &types::Grant(&grant));
    Stepped { decision, grant: grant.0.into_inner(), state: exchange.state.into_inner() }
}

/// What came of [`authorize`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized {
    /// The plugin's answer.
    pub decision: Decision,
    /// How long the broker may reuse it; none when the plugin said nothing.
    pub cache_ttl_ms: Option<u32>,
}

/// Calls the hook.
pub fn authorize<P: Authorize>(
    plugin: &mut P,
    connection: &Connection,
    request: &Request,
) -> Authorized {
    let cache = backend::CacheHint::default();
    let decision = plugin.authorize(&types::Connection(connection), request, &CacheHint(&cache));
    Authorized { decision, cache_ttl_ms: cache.0.into_inner() }
}

/// What came of [`on_publish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The plugin's answer.
    pub verdict: Verdict,
    /// The message with the plugin's changes, which count if it passed.
    pub message: Message,
}

/// Calls the hook.
pub fn on_publish<P: OnPublish>(
    plugin: &mut P,
    connection: &Connection,
    message: &Message,
) -> Published {
    let message =
        backend::Message { original: message.clone(), changed: RefCell::new(message.clone()) };
    let verdict = plugin.on_publish(&types::Connection(connection), &types::Message(&message));
    Published { verdict, message: message.changed.into_inner() }
}

/// Moves both of this thread's clocks forward.
pub fn advance_clock_ms(milliseconds: u64) {
    SERVICES.with_borrow_mut(|services| services.elapsed_ms += milliseconds);
}

/// Takes the lines that were logged on this thread since the last call.
pub fn take_logs() -> Vec<(Level, String)> {
    SERVICES.with_borrow_mut(|services| std::mem::take(&mut services.logs))
}

/// Lets every [`crate::kv::set`] of this thread fail with that error, or none again.
pub fn fail_kv(error: Option<Error>) {
    SERVICES.with_borrow_mut(|services| services.kv_error = error);
}

#[derive(Default)]
struct Services {
    elapsed_ms: u64,
    logs: Vec<(Level, String)>,
    kv: HashMap<String, Stored>,
    kv_error: Option<Error>,
    random: u64,
}

struct Stored {
    value: Vec<u8>,
    expires_at_ms: Option<u64>,
}

thread_local! {
    static SERVICES: RefCell<Services> = RefCell::default();
}

/// The broker's side of the SDK's types: the same names and signatures as the generated bindings.
pub(crate) mod backend {
    pub(crate) use super::Connection;
    use super::{Granted, KV_BYTES_MAX, Level, RefCell, SERVICES, START_UNIX_MS, Services, Stored};
    pub(crate) use crate::kv::Error;
    pub(crate) use crate::types::QoS as Qos;

    #[derive(Debug)]
    pub(crate) struct Startup {
        pub(super) config: String,
    }

    impl Startup {
        pub(crate) fn config(&self) -> String {
            self.config.clone()
        }

        pub(crate) fn tenant(&self) -> String {
            "default".to_owned()
        }

        pub(crate) fn host_version(&self) -> String {
            env!("CARGO_PKG_VERSION").to_owned()
        }
    }

    impl Connection {
        pub(crate) fn tenant(&self) -> String {
            self.tenant.clone()
        }

        pub(crate) fn client_id(&self) -> String {
            self.client_id.clone()
        }

        pub(crate) fn username(&self) -> Option<String> {
            self.username.clone()
        }

        pub(crate) fn principal(&self) -> Option<String> {
            self.principal.clone()
        }

        pub(crate) fn roles(&self) -> Vec<String> {
            self.roles.clone()
        }

        pub(crate) fn attribute(&self, name: &str) -> Option<String> {
            self.attributes.get(name).cloned()
        }

        pub(crate) fn listener(&self) -> String {
            self.listener.clone()
        }

        pub(crate) fn peer(&self) -> String {
            self.peer.clone()
        }

        pub(crate) fn protocol_level(&self) -> u8 {
            self.protocol_level
        }

        pub(crate) fn clean_start(&self) -> bool {
            self.clean_start
        }

        pub(crate) fn keep_alive_seconds(&self) -> u16 {
            self.keep_alive_seconds
        }
    }

    #[derive(Debug)]
    pub(crate) struct Message {
        pub(super) original: super::Message,
        pub(super) changed: RefCell<super::Message>,
    }

    impl Message {
        pub(crate) fn topic(&self) -> String {
            self.original.topic.clone()
        }

        pub(crate) fn qos(&self) -> Qos {
            self.original.qos
        }

        pub(crate) fn retain(&self) -> bool {
            self.original.retain
        }

        pub(crate) fn payload_length(&self) -> u32 {
            u32::try_from(self.original.payload.len())
                .expect("a test's payload is no longer than MQTT allows")
        }

        pub(crate) fn payload(&self) -> Vec<u8> {
            self.original.payload.clone()
        }

        pub(crate) fn content_type(&self) -> Option<String> {
            self.original.content_type.clone()
        }

        pub(crate) fn user_property(&self, name: &str) -> Option<String> {
            let mut properties = self.original.user_properties.iter();
            properties.find(|(key, _)| key == name).map(|(_, value)| value.clone())
        }

        pub(crate) fn set_topic(&self, topic: &str) {
            self.changed.borrow_mut().topic = topic.to_owned();
        }

        pub(crate) fn set_payload(&self, payload: &[u8]) {
            self.changed.borrow_mut().payload = payload.to_vec();
        }

        pub(crate) fn set_qos(&self, qos: Qos) {
            self.changed.borrow_mut().qos = qos;
        }

        pub(crate) fn set_retain(&self, retain: bool) {
            self.changed.borrow_mut().retain = retain;
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Grant(pub(super) RefCell<Granted>);

    impl Grant {
        pub(crate) fn set_principal(&self, name: &str) {
            self.0.borrow_mut().principal = Some(name.to_owned());
        }

        pub(crate) fn add_role(&self, role: &str) {
            self.0.borrow_mut().roles.push(role.to_owned());
        }

        pub(crate) fn set_attribute(&self, name: &str, value: &str) {
            self.0.borrow_mut().attributes.insert(name.to_owned(), value.to_owned());
        }

        pub(crate) fn set_expires_at(&self, unix_seconds: u64) {
            self.0.borrow_mut().expires_at = Some(unix_seconds);
        }
    }

    #[derive(Debug)]
    pub(crate) struct Exchange {
        pub(super) given: super::Exchange,
        pub(super) state: RefCell<Vec<u8>>,
    }

    impl Exchange {
        pub(crate) fn method(&self) -> String {
            self.given.method.clone()
        }

        pub(crate) fn data(&self) -> Option<Vec<u8>> {
            self.given.data.clone()
        }

        pub(crate) fn step(&self) -> u32 {
            self.given.step
        }

        pub(crate) fn is_re_authentication(&self) -> bool {
            self.given.is_re_authentication
        }

        pub(crate) fn state(&self) -> Vec<u8> {
            self.given.state.clone()
        }

        pub(crate) fn set_state(&self, state: &[u8]) {
            *self.state.borrow_mut() = state.to_vec();
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct CacheHint(pub(super) RefCell<Option<u32>>);

    impl CacheHint {
        pub(crate) fn set_ttl_ms(&self, ttl_ms: u32) {
            *self.0.borrow_mut() = Some(ttl_ms);
        }
    }

    pub(crate) fn log(level: Level, message: &str) {
        SERVICES.with_borrow_mut(|services| services.logs.push((level, message.to_owned())));
    }

    pub(crate) fn now_unix_ms() -> u64 {
        START_UNIX_MS + monotonic_ms()
    }

    pub(crate) fn monotonic_ms() -> u64 {
        SERVICES.with_borrow(|services| services.elapsed_ms)
    }

    /// Not random at all, and different each time: a linear congruential generator (Knuth).
    pub(crate) fn bytes(length: u32) -> Vec<u8> {
        SERVICES.with_borrow_mut(|services| {
            let mut next = || {
                let random = services.random.wrapping_mul(6_364_136_223_846_793_005);
                services.random = random.wrapping_add(1_442_695_040_888_963_407);
                services.random.to_be_bytes()[0]
            };
            (0..length).map(|_| next()).collect()
        })
    }

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        SERVICES.with_borrow(|Services { kv, elapsed_ms, .. }| {
            let stored = kv.get(key)?;
            let alive = stored.expires_at_ms.is_none_or(|at| *elapsed_ms < at);
            alive.then(|| stored.value.clone())
        })
    }

    pub(crate) fn set(key: &str, value: &[u8], ttl_ms: Option<u32>) -> Result<(), Error> {
        if key.len() > KV_BYTES_MAX || value.len() > KV_BYTES_MAX {
            return Err(Error::TooLarge);
        }
        SERVICES.with_borrow_mut(|services| {
            if let Some(error) = services.kv_error {
                return Err(error);
            }
            let expires_at_ms = ttl_ms.map(|ttl| services.elapsed_ms + u64::from(ttl));
            let stored = Stored { value: value.to_vec(), expires_at_ms };
            services.kv.insert(key.to_owned(), stored);
            Ok(())
        })
    }

    pub(crate) fn remove(key: &str) {
        SERVICES.with_borrow_mut(|services| services.kv.remove(key));
    }
}
