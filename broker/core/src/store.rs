//! What the core asks a store to keep, as plain data.
//! What must not live here: how it is kept, and when an acknowledgement may leave.

use std::sync::Arc;

use crate::hook::{ConnectionFacts, Principal};
use crate::ids::{MessageId, PacketId, SessionId, TenantId};
use crate::message::{QoS, SharedMessage};
use crate::time::Millis;
use crate::topic::TopicFilter;

/// One change of durable state. A batch of them is committed, or fails, as a whole; batches of one
/// worker are answered in the order in which they were handed over, each exactly once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A session exists, or its facts changed.
    SessionPut {
        /// The session.
        session: SessionId,
        /// Its tenant.
        tenant: TenantId,
        /// Its Client Identifier.
        client_id: Arc<str>,
        /// Session Expiry Interval in seconds, `u32::MAX`: never.
        expiry_seconds: u32,
    },
    /// A session and all that belongs to it is gone.
    SessionEnd {
        /// The session.
        session: SessionId,
    },
    /// A subscription was made or replaced.
    SubscriptionPut {
        /// The session.
        session: SessionId,
        /// The filter.
        filter: TopicFilter,
        /// Its options.
        options: SubscriptionOptions,
    },
    /// A subscription was removed.
    SubscriptionEnd {
        /// The session.
        session: SessionId,
        /// The filter.
        filter: TopicFilter,
    },
    /// A message that the following [`Op::Enqueue`] refer to.
    Message {
        /// Its id.
        id: MessageId,
        /// The message.
        message: SharedMessage,
    },
    /// A message waits for a session.
    Enqueue {
        /// The session.
        session: SessionId,
        /// The message.
        message: MessageId,
        /// QoS towards that session.
        qos: QoS,
    },
    /// A message was sent to the session's client under this Packet Identifier.
    InFlight {
        /// The session.
        session: SessionId,
        /// The message.
        message: MessageId,
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// PUBREC arrived for it: from here on only PUBREL is sent again.
    Received {
        /// The session.
        session: SessionId,
        /// The message.
        message: MessageId,
    },
    /// A message is done with for that session: acknowledged, expired or dropped.
    Dequeue {
        /// The session.
        session: SessionId,
        /// The message.
        message: MessageId,
    },
    /// A QoS 2 publish from the session's client was taken over under this Packet Identifier.
    InboundPut {
        /// The session.
        session: SessionId,
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// PUBREL arrived: the Packet Identifier is free again.
    InboundEnd {
        /// The session.
        session: SessionId,
        /// The Packet Identifier.
        packet_id: PacketId,
    },
    /// A retained message was set.
    RetainedPut {
        /// Its tenant.
        tenant: TenantId,
        /// The message.
        message: SharedMessage,
    },
    /// A message was accepted that is to be published later.
    DelayedPut(Box<Delayed>),
    /// A delayed message was published, or is not to be any more.
    DelayedEnd {
        /// Its id.
        id: MessageId,
    },
    /// A retained message was cleared.
    RetainedEnd {
        /// Its tenant.
        tenant: TenantId,
        /// Its Topic Name.
        topic: Box<str>,
    },
}

/// A message that is to be published later, with all that it needs to pass the hooks then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delayed {
    /// Its id.
    pub id: MessageId,
    /// Its tenant.
    pub tenant: TenantId,
    /// The message.
    pub message: SharedMessage,
    /// When it is to be published.
    pub due: Millis,
    /// Whether it is a Will.
    pub is_will: bool,
    /// Whose it is.
    pub facts: Arc<ConnectionFacts>,
    /// Who that was.
    pub principal: Arc<Principal>,
}

/// A batch was not committed; nothing of it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreFault {
    /// No space left.
    Full,
    /// Anything else; the store's log says what.
    Failed,
}

/// Options of a subscription [MQTT 3.8.3.1].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Subscription Identifier, 0: none.
    pub identifier: u32,
}
