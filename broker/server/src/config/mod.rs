//! The configuration of one broker process: plain, validated, complete.
//! What must not live here: reading TOML (`tree`, `schema`), opening what the configuration names.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use wasmqtt_core::limits::{Limits as CoreLimits, QueuePolicy, RetainedLimits};
use wasmqtt_core::rewrite::{Rewrite, Rewrites};
use wasmqtt_core::router::GroupRule;
use wasmqtt_core::topic::TopicFilter;
use wasmqtt_core::worker::TopicSettings;
use wasmqtt_core::worker::auto_subscribe::AutoSubscribe;

use crate::config::listener::Listener;

pub(crate) mod bundled;
pub(crate) mod listener;
pub(crate) mod load;
pub(crate) mod plan;
pub(crate) mod problem;
pub(crate) mod read;
pub(crate) mod schema;
pub(crate) mod template;
mod topics;
pub(crate) mod tree;

/// What `broker.toml`, `--set` and the defaults say together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// At least one; by name, in the order of names.
    pub listeners: BTreeMap<Arc<str>, Listener>,
    /// Who is asked at CONNECT, in order; at least one.
    pub auth_order: Vec<AuthStep>,
    /// Who is asked when CONNECT names an Authentication Method, in order: names in `plugins`.
    pub auth_exchange: Vec<Arc<str>>,
    /// Who is asked for a topic, in order; empty: everything is denied.
    pub access_order: Vec<AccessStep>,
    /// The on-publish chain: names in `plugins`, at most [`PUBLISH_PLUGINS_MAX`].
    pub publish_order: Vec<Arc<str>>,
    /// Every plugin of the file, named by an order or not.
    pub plugins: BTreeMap<Arc<str>, PluginConfig>,
    /// `[topics]`, `[[rewrite]]` and `[[auto_subscribe]]`.
    pub topics: Topics,
    /// How share groups choose: the first that applies.
    pub shared: Vec<GroupRule>,
    /// Bounds.
    pub limits: Limits,
    /// Worker threads: "auto" is the number of cores.
    pub workers: NonZeroU16,
    /// Logging.
    pub log: LogConfig,
}

/// The bits of `wasmqtt_core::hook::ChainMask`.
pub(crate) const PUBLISH_PLUGINS_MAX: usize = 32;

/// One step of `auth.order`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthStep {
    /// `"password"`: name and password in `directory.db`.
    Password,
    /// `"anonymous"`: a CONNECT without User Name and Password is let in without a name.
    Anonymous,
    /// `"plugin:NAME"`: a key of [`Config::plugins`].
    Plugin(Arc<str>),
}

/// One step of `access.order`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccessStep {
    /// `"rules"`: the rules in `directory.db`.
    Rules,
    /// `"plugin:NAME"`: a key of [`Config::plugins`].
    Plugin(Arc<str>),
}

/// One table of `[plugins]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PluginConfig {
    /// Where the component comes from.
    pub source: PluginSource,
    /// `config = { … }`, given to the plugin's `init`; an object.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// What a fault in `on-publish` means.
    pub on_fault: OnFault,
    /// Narrows `on-publish` further than the manifest does; `None`: does not.
    pub topics: Option<Vec<TopicFilter>>,
}

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PluginSource {
    /// `file = …`, relative to the directory of `broker.toml`; made absolute or relative to the
    /// working directory.
    File(PathBuf),
    /// `bundled = true`: inside this binary, under the plugin's own name.
    Bundled,
}

/// What a fault of an on-publish plugin means for the message. Elsewhere a fault always denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum OnFault {
    /// The message is refused.
    #[default]
    Refuse,
    /// The message goes on as it was.
    Pass,
}

/// The values of `limits.queue_policy`.
pub(crate) const QUEUE_POLICIES: &[(&str, QueuePolicy)] = &[
    ("drop-oldest", QueuePolicy::DropOldest),
    ("drop-newest", QueuePolicy::DropNewest),
    ("disconnect", QueuePolicy::Disconnect),
];

/// Every bound that an operator may choose. Key and field have the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// A larger packet ends its connection (MQTT 5: 0x95); told to MQTT 5 clients.
    pub packet_bytes_max: u32,
    /// Messages that wait for one session beyond those in flight.
    pub queue_messages_max: u32,
    /// Bytes that wait for one session.
    pub queue_bytes_max: u64,
    /// Which QoS 1 or 2 message gives way at these bounds; QoS 0 gives way before any of them.
    pub queue_policy: QueuePolicy,
    /// QoS 1 and 2 messages sent to one client and not yet acknowledged; the client's own Receive
    /// Maximum may lower it.
    pub inflight_max: u16,
    /// QoS 1 and 2 messages that one client may have unacknowledged towards the broker.
    pub receive_maximum: u16,
    /// Topics that one client is sent by Topic Aliases (MQTT 5), if it takes so many; 0: none.
    pub topic_aliases_max: u16,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Sessions, with and without a connection; further clients are refused (MQTT 5: 0x97).
    pub sessions_max: u32,
    /// A session is kept no longer than this after its connection ended; `u32::MAX`: for ever.
    pub session_expiry_seconds_max: u32,
    /// A longer Keep Alive, or none, is lowered to this (MQTT 5: Server Keep Alive); 0: the
    /// client's choice stands.
    pub keep_alive_seconds_max: u16,
    /// From accept to a complete CONNECT, and again from there to the last AUTH packet.
    pub connect_timeout_seconds: u16,
    /// A client that takes nothing for this long while bytes wait for it is cut.
    pub write_timeout_seconds: u16,
    /// A packet that has begun and does not come whole in this time, and a second more for each KiB
    /// of it that came, ends its connection (MQTT 5: 0x83).
    pub frame_timeout_seconds: u16,
    /// Messages that wait to be published later (`$delayed/SECONDS/TOPIC`); 0: none may.
    pub delayed_messages_max: u32,
    /// Bytes of those.
    pub delayed_bytes_max: u64,
    /// A longer delay is refused.
    pub delay_seconds_max: u32,
    /// Retained messages.
    pub retained_messages_max: u32,
    /// Bytes of retained messages, topics included.
    pub retained_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 1 << 20,
            queue_messages_max: 100_000,
            queue_bytes_max: 16 << 20,
            queue_policy: QueuePolicy::DropOldest,
            inflight_max: 100,
            receive_maximum: 100,
            topic_aliases_max: 16,
            subscriptions_max: 10_000,
            sessions_max: 1_000_000,
            session_expiry_seconds_max: 7 * 24 * 60 * 60,
            keep_alive_seconds_max: 0,
            connect_timeout_seconds: 10,
            write_timeout_seconds: 30,
            frame_timeout_seconds: 30,
            delayed_messages_max: 100_000,
            delayed_bytes_max: 64 << 20,
            delay_seconds_max: 4_294_967,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
        }
    }
}

impl Limits {
    /// As the core takes them; what no operator chooses is the core's default.
    pub(crate) fn core(&self) -> CoreLimits {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        CoreLimits {
            packet_bytes_max: self.packet_bytes_max,
            inflight_max: self.inflight_max,
            receive_maximum: self.receive_maximum,
            topic_aliases_max: self.topic_aliases_max,
            queue_messages_max: size(self.queue_messages_max.into()),
            queue_bytes_max: size(self.queue_bytes_max),
            queue_policy: self.queue_policy,
            subscriptions_max: size(self.subscriptions_max.into()),
            sessions_max: size(self.sessions_max.into()),
            session_expiry_seconds_max: self.session_expiry_seconds_max,
            keep_alive_seconds_max: self.keep_alive_seconds_max,
            exchange_timeout_seconds: self.connect_timeout_seconds.into(),
            write_timeout_seconds: self.write_timeout_seconds.into(),
            frame_timeout_seconds: self.frame_timeout_seconds.into(),
            delayed_messages_max: size(self.delayed_messages_max.into()),
            delayed_bytes_max: size(self.delayed_bytes_max),
            delay_seconds_max: self.delay_seconds_max,
            retained: RetainedLimits {
                messages_max: size(self.retained_messages_max.into()),
                bytes_max: size(self.retained_bytes_max),
            },
            ..CoreLimits::default()
        }
    }
}

/// What is arranged about topics and messages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Topics {
    /// `$SYS` is published so often; 0: never.
    pub sys_interval_seconds: u32,
    /// What CONNACK tells MQTT 5 clients that ask for Response Information.
    pub response_information: Option<Arc<str>>,
    /// In order; the first that matches counts.
    pub rewrites: Vec<Rewrite>,
    /// What every client is subscribed to.
    pub auto_subscribe: Vec<AutoSubscribe>,
    /// Refuses a payload that says it is text and is not.
    pub check_payload_format: bool,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            sys_interval_seconds: 10,
            response_information: None,
            rewrites: Vec::new(),
            auto_subscribe: Vec::new(),
            check_payload_format: false,
        }
    }
}

impl Topics {
    /// As the core takes them.
    pub(crate) fn core(&self) -> TopicSettings {
        TopicSettings {
            rewrites: (!self.rewrites.is_empty()).then(|| Rewrites::new(&self.rewrites)),
            auto_subscribe: self.auto_subscribe.clone(),
            sys_interval_seconds: self.sys_interval_seconds,
            check_payload_format: self.check_payload_format,
        }
    }
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct LogConfig {
    /// The least severe level that is written; `WASMQTT_LOG` overrides it.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
}

/// `log.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum LogLevel {
    /// Something failed.
    Error,
    /// Something is degraded.
    Warn,
    /// Connected, loaded, read.
    #[default]
    Info,
    /// Each change of state.
    Debug,
    /// Each packet.
    Trace,
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    /// What an empty `broker.toml` means.
    fn default() -> Self {
        Self {
            listeners: BTreeMap::from([(Arc::from("mqtt"), Listener::default())]),
            auth_order: vec![AuthStep::Password],
            auth_exchange: Vec::new(),
            access_order: vec![AccessStep::Rules],
            publish_order: Vec::new(),
            plugins: BTreeMap::new(),
            topics: Topics::default(),
            shared: Vec::new(),
            limits: Limits::default(),
            workers: cores(),
            log: LogConfig::default(),
        }
    }
}

/// The cores that this process may use; what `workers.count = "auto"` means.
pub(crate) fn cores() -> NonZeroU16 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|count| NonZeroU16::try_from(count).ok())
        .unwrap_or(NonZeroU16::MIN)
}
