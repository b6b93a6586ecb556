//! What a worker does: one trait that the server turns into bytes and the simulator records.
//! What must not live here: any decision.

use std::sync::Arc;

use crate::event::Mail;
use crate::hook::{
    AuthenticateAnswer, AuthenticateRequest, AuthorizeAnswer, AuthorizeRequest, ChainMask,
    ConnectionFacts, ExchangeAnswer, ExchangeRequest, HookReply, OnPublishRequest, Principal,
    PublishVerdict,
};
use crate::ids::{BatchId, ConnId, ConnSlot, HookToken, PacketId, TenantId, WorkerId};
use crate::message::{MessageRef, QoS};
use crate::reason::{DropReason, ReasonCode};
use crate::store::Op;
use crate::time::Millis;

/// A PUBLISH towards a client.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The message.
    pub message: MessageRef<'a>,
    /// QoS towards this client.
    pub qos: QoS,
    /// RETAIN towards this client.
    pub retain: bool,
    /// DUP: sent before on an earlier connection [MQTT-3.3.1-1].
    pub dup: bool,
    /// Packet Identifier, there if and only if QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// Subscription Identifiers.
    pub subscription_ids: &'a [u32],
    /// Message Expiry Interval that remains, in seconds.
    pub expiry_seconds: Option<u32>,
}

/// A packet towards a client, other than PUBLISH.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    /// CONNACK.
    ConnAck(ConnAck<'a>),
    /// PUBACK.
    PubAck(PacketId, ReasonCode, Option<&'a str>),
    /// PUBREC.
    PubRec(PacketId, ReasonCode, Option<&'a str>),
    /// PUBREL.
    PubRel(PacketId, ReasonCode),
    /// PUBCOMP.
    PubComp(PacketId, ReasonCode),
    /// SUBACK, a code per filter.
    SubAck(PacketId, &'a [ReasonCode]),
    /// UNSUBACK, a code per filter.
    UnsubAck(PacketId, &'a [ReasonCode]),
    /// PINGRESP.
    PingResp,
    /// AUTH.
    Auth(ReasonCode, Proof<'a>),
}

/// Authentication Method and Authentication Data towards a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proof<'a> {
    /// The method that CONNECT named [MQTT-4.12.0-5].
    pub method: &'a str,
    /// Authentication Data.
    pub data: Option<&'a [u8]>,
}

impl Reply<'_> {
    /// The packet's name, for a log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnAck(_) => "CONNACK",
            Self::PubAck(..) => "PUBACK",
            Self::PubRec(..) => "PUBREC",
            Self::PubRel(..) => "PUBREL",
            Self::PubComp(..) => "PUBCOMP",
            Self::SubAck(..) => "SUBACK",
            Self::UnsubAck(..) => "UNSUBACK",
            Self::PingResp => "PINGRESP",
            Self::Auth(..) => "AUTH",
        }
    }
}

/// CONNACK.
#[derive(Clone, Copy, Debug)]
pub struct ConnAck<'a> {
    /// The outcome.
    pub code: ReasonCode,
    /// Text of a refusal.
    pub reason: Option<&'a str>,
    /// Session Present.
    pub session_present: bool,
    /// Assigned Client Identifier.
    pub assigned_client_id: Option<&'a str>,
    /// Server Keep Alive, where it differs from what the client asked.
    pub server_keep_alive: Option<u16>,
    /// Session Expiry Interval, where it differs from what the client asked.
    pub session_expiry_seconds: Option<u32>,
    /// What ends the exchange of AUTH packets, where there was one.
    pub proof: Option<Proof<'a>>,
}

/// What is worth a counter or a line in the log. Never a payload or a password.
#[derive(Clone, Debug)]
pub enum Observation<'a> {
    /// A client is connected.
    Connected {
        /// The connection's number.
        id: ConnId,
        /// The connection.
        facts: &'a ConnectionFacts,
        /// Who it is.
        principal: &'a Principal,
        /// Whether it found its session.
        session_present: bool,
    },
    /// A connected client has authenticated again.
    Reauthenticated {
        /// The connection's number.
        id: ConnId,
        /// The connection.
        facts: &'a ConnectionFacts,
        /// Who it is.
        principal: &'a Principal,
    },
    /// A CONNECT was refused.
    ConnectRefused {
        /// The connection.
        facts: &'a ConnectionFacts,
        /// Why.
        code: ReasonCode,
    },
    /// A connection is over.
    Disconnected {
        /// The connection's number.
        id: ConnId,
        /// The connection.
        facts: &'a ConnectionFacts,
        /// Why; `None`: the peer or the network closed it.
        code: Option<ReasonCode>,
    },
    /// A publish, subscription or Will was refused.
    Denied {
        /// The connection.
        facts: &'a ConnectionFacts,
        /// Topic Name or Topic Filter.
        topic: &'a str,
        /// Why.
        code: ReasonCode,
    },
    /// A subscription that the operator arranged for every client did not come about for one.
    AutoSubscribeRefused {
        /// The connection.
        facts: &'a ConnectionFacts,
        /// The filter, as it was arranged if it can't be this client's.
        filter: &'a str,
        /// Why.
        code: ReasonCode,
    },
    /// A message never reaches a session's client.
    Dropped {
        /// The receiver.
        client_id: &'a str,
        /// Its Topic Name.
        topic: &'a str,
        /// Why.
        reason: DropReason,
    },
    /// A session's queue is full: the first message is lost since it was empty, or since its
    /// client connected.
    QueueOverflows {
        /// The receiver.
        client_id: &'a str,
        /// Why that message is lost.
        reason: DropReason,
    },
    /// A queue that was full is empty again.
    QueueRecovered {
        /// The receiver.
        client_id: &'a str,
        /// Messages that were lost.
        messages: u64,
    },
}

/// The world around a worker. All calls return at once.
pub trait Shell {
    /// A connection's write end. Cheap to clone; the worker drops it when the connection is over.
    type Link: Clone;

    /// Whether the client's socket is full: what can wait is then queued in its session.
    fn is_congested(&mut self, link: &Self::Link) -> bool;
    /// Whether what the client sends waits unread for a reason of the broker's or of its socket's:
    /// its silence is then not its own.
    fn is_unheard(&mut self, link: &Self::Link) -> bool;
    /// Whether the packet that the client has begun takes longer than it may, by the client's doing.
    fn is_overdue(&mut self, now: Millis, link: &Self::Link) -> bool;
    /// Sends a PUBLISH; false when it is longer than the client's Maximum Packet Size.
    fn deliver(&mut self, link: &Self::Link, delivery: Delivery<'_>) -> bool;
    /// Sends any other packet.
    fn send(&mut self, link: &Self::Link, reply: Reply<'_>);
    /// Whether the client takes packets of that length: see its Maximum Packet Size.
    fn takes(&mut self, link: &Self::Link, bytes: usize) -> bool;
    /// Closes the connection after what was sent, with a DISCONNECT where the protocol has one.
    fn close(&mut self, link: &Self::Link, code: Option<ReasonCode>);
    /// Stops or goes on handing over packets of this client. After CONNECT the shell has stopped
    /// by itself: the worker lets it go on when the client is connected.
    fn set_reading(&mut self, link: &Self::Link, reading: bool);

    /// Puts mail into another worker's box.
    fn mail(&mut self, to: WorkerId, mail: Mail);
    /// Commits the operations; answered by `Event::Persisted`.
    fn persist(&mut self, batch: BatchId, ops: Vec<Op>);

    /// Starts the authentication order.
    fn authenticate(
        &mut self,
        token: HookToken,
        request: AuthenticateRequest,
    ) -> HookReply<AuthenticateAnswer>;
    /// Asks for one step of an exchange of AUTH packets.
    fn auth_exchange(
        &mut self,
        token: HookToken,
        request: ExchangeRequest,
    ) -> HookReply<ExchangeAnswer>;
    /// Asks one plugin of the access order.
    fn authorize(
        &mut self,
        token: HookToken,
        plugin: u16,
        request: AuthorizeRequest<'_>,
    ) -> HookReply<AuthorizeAnswer>;
    /// Runs the on-publish chain.
    fn on_publish(
        &mut self,
        token: HookToken,
        request: OnPublishRequest<'_>,
    ) -> HookReply<PublishVerdict>;
    /// Which on-publish plugins a Topic Name concerns.
    fn chain_mask(&mut self, tenant: TenantId, topic: &str) -> ChainMask;

    /// Tells what happened.
    fn observe(&mut self, observation: Observation<'_>);
    /// A connection is over and its slot is free.
    fn forget(&mut self, slot: ConnSlot) {
        let _ = slot;
    }
}

/// One step of the access order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessStep {
    /// The tenant's rules.
    Rules,
    /// A plugin, by its number in the host.
    Plugin(u16),
}

/// The configured access order.
pub type AccessOrder = Arc<[AccessStep]>;
