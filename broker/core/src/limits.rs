//! Every bound of the core, with its unit in its name.
//! What must not live here: anything that enforces one.

/// Levels of a Topic Name or Topic Filter.
pub const TOPIC_LEVELS_MAX: usize = 128;

/// Bytes of a Topic Name or Topic Filter: what a UTF-8 string field can hold [MQTT-4.7.3-3].
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// Expired retained messages that one tick forgets, for each tenant.
pub const RETAINED_PURGE_MAX: usize = 1_000;

/// Filters of one SUBSCRIBE packet; further ones are refused.
pub const SUBSCRIBE_FILTERS_MAX: usize = 1_000;

/// Rules that rewrite topics: each name is held against them one after the other.
pub const REWRITES_MAX: usize = 100;

/// Subscriptions that are made for each client when it connects.
pub const AUTO_SUBSCRIBE_MAX: usize = 100;

/// Delayed messages that one worker publishes in one tick; what is left is due at the next.
pub const DELAYED_FIRED_MAX: usize = 10_000;

/// When a delayed message is tried again that was due and could not be stored.
pub const DELAYED_RETRY_SECONDS: u64 = 10;

/// Bytes of the topics that one worker remembers, with their match sets.
pub const ROUTES_BYTES_MAX: usize = 64 << 20;

/// Challenges that a client may be asked to answer in one exchange of AUTH packets.
pub const EXCHANGE_STEPS_MAX: u16 = 16;

/// Bytes of an AUTH packet beside its method and its data: fixed header, Reason Code, property
/// length, and what stands before the two properties.
pub const AUTH_OVERHEAD_BYTES: usize = 16;

/// The same of a CONNACK that accepts, beside the Client Identifier that it assigns: every property
/// that this broker puts in one.
pub const CONNACK_OVERHEAD_BYTES: usize = 64;

/// The slowest that a packet may come once `frame_timeout_seconds` are over.
pub const FRAME_BYTES_PER_SECOND_MIN: u64 = 1024;

/// Bounds of one tenant's retained messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetainedLimits {
    /// Retained messages.
    pub messages_max: usize,
    /// Bytes of all retained messages, see [`crate::message::Message::size`].
    pub bytes_max: usize,
}

/// Which QoS 1 or 2 message gives way when a session's queue is full. Messages of QoS 0 give way
/// before any of them, whatever this says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum QueuePolicy {
    /// The one that waited longest. The default: a client that comes back, or reads again, learns
    /// how things are rather than how they were, and what waited longest is the likeliest to be
    /// out of date.
    #[default]
    DropOldest,
    /// The one that came last: what waits already keeps its place.
    DropNewest,
    /// The one that came last, and the client is disconnected with 0x97 if it is connected.
    Disconnect,
}

/// Bounds of one worker and of what it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a packet that a client may send, fixed header included.
    pub packet_bytes_max: u32,
    /// Unacknowledged QoS 1 and 2 messages towards one client.
    pub inflight_max: u16,
    /// Receive Maximum that is told to MQTT 5 clients.
    pub receive_maximum: u16,
    /// Topic Alias Maximum that is told to MQTT 5 clients.
    pub topic_alias_maximum: u16,
    /// Topics that one MQTT 5 client is sent by Topic Aliases, within the maximum that it accepts.
    pub topic_aliases_max: u16,
    /// Messages that wait for one session beyond its in-flight window.
    pub queue_messages_max: usize,
    /// Bytes of those messages.
    pub queue_bytes_max: usize,
    /// What happens when a session's queue is full.
    pub queue_policy: QueuePolicy,
    /// Retained messages that a new subscription gets before others have their turn.
    pub replay_messages_max: usize,
    /// Bytes of those messages.
    pub replay_bytes_max: usize,
    /// Topic levels that are looked at for them.
    pub replay_places_max: usize,
    /// Publishes of one connection that wait for a hook or a commit; beyond it reading pauses.
    pub line_messages_max: usize,
    /// Bytes of those publishes; beyond it reading pauses.
    pub line_bytes_max: usize,
    /// SUBSCRIBE and UNSUBSCRIBE packets of one connection that wait for a hook.
    pub subscribes_pending_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_max: usize,
    /// Sessions of one tenant, with and without a connection.
    pub sessions_max: usize,
    /// Session Expiry Interval that is granted at most; `u32::MAX` is "never".
    pub session_expiry_seconds_max: u32,
    /// Keep Alive that is granted at most, 0: whatever the client asks.
    pub keep_alive_seconds_max: u16,
    /// From CONNECT, or the AUTH packet that asks for re-authentication, to a client's last answer.
    pub exchange_timeout_seconds: u32,
    /// How long a client may leave its socket full before it is cut.
    pub write_timeout_seconds: u32,
    /// How long a packet that has begun may take, besides a second for each
    /// [`FRAME_BYTES_PER_SECOND_MIN`] of it that came.
    pub frame_timeout_seconds: u32,
    /// Topics whose match set one worker remembers.
    pub routes_max: usize,
    /// Access decisions that one connection remembers.
    pub decisions_max: usize,
    /// Delayed messages of one tenant.
    pub delayed_messages_max: usize,
    /// Bytes of those messages.
    pub delayed_bytes_max: usize,
    /// Seconds for which a message may be delayed.
    pub delay_seconds_max: u32,
    /// Timers that are no use any more, before they are cleared away.
    pub timers_spare: usize,
    /// One tenant's retained messages.
    pub retained: RetainedLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 1 << 20,
            inflight_max: 100,
            receive_maximum: 100,
            topic_alias_maximum: 16,
            topic_aliases_max: 16,
            queue_messages_max: 100_000,
            queue_bytes_max: 16 << 20,
            queue_policy: QueuePolicy::DropOldest,
            replay_messages_max: 128,
            replay_bytes_max: 64 << 10,
            replay_places_max: 4_096,
            line_messages_max: 256,
            line_bytes_max: 1 << 20,
            subscribes_pending_max: 16,
            subscriptions_max: 10_000,
            sessions_max: 1_000_000,
            session_expiry_seconds_max: 7 * 24 * 60 * 60,
            keep_alive_seconds_max: 0,
            exchange_timeout_seconds: 10,
            write_timeout_seconds: 30,
            frame_timeout_seconds: 30,
            routes_max: 100_000,
            decisions_max: 4_096,
            delayed_messages_max: 100_000,
            delayed_bytes_max: 64 << 20,
            delay_seconds_max: 4_294_967,
            timers_spare: 1_024,
            retained: RetainedLimits { messages_max: 1_000_000, bytes_max: 1 << 30 },
        }
    }
}
