//! What happens to a worker: packets, answers, mail from other workers, time.
//! What must not live here: what the worker does about it.

use std::sync::Arc;

use crate::access::RuleSet;
use crate::hook::{ConnectionFacts, HookAnswer};
use crate::ids::{
    BatchId, ConnSlot, HookToken, MessageId, PacketId, SessionSlot, TenantId, WorkerId,
};
use crate::message::{QoS, SharedMessage};
use crate::reason::ReasonCode;
use crate::router::{MatchSet, Member};
use crate::session::will::Will;
use crate::session::{SessionState, Share};
use crate::store::StoreFault;

/// A CONNECT packet that is well formed.
#[derive(Debug)]
pub struct Connect {
    /// What hooks may know; the Client Identifier is empty when the client sent none.
    pub facts: ConnectionFacts,
    /// The tenant that the listener resolved.
    pub tenant: TenantId,
    /// The Password field.
    pub password: Option<Box<[u8]>>,
    /// How an exchange of AUTH packets begins, where the client asks for one.
    pub authentication: Option<Authentication>,
    /// The Will, if any.
    pub will: Option<Box<Will>>,
    /// Session Expiry Interval; 3.1.1: 0 with Clean Session, else `u32::MAX`.
    pub session_expiry_seconds: u32,
    /// The client's Receive Maximum; 65,535 where it sent none.
    pub receive_maximum: u16,
}

/// Authentication Method and Authentication Data of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authentication {
    /// The method's name.
    pub method: Box<str>,
    /// What the method makes of it.
    pub data: Option<Box<[u8]>>,
}

/// A PUBLISH packet that is well formed, borrowed from the read buffer. The Topic Name is not yet
/// checked: the worker remembers which ones are valid.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Topic Name, UTF-8 without U+0000.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// DUP flag.
    pub dup: bool,
    /// Packet Identifier, there if and only if QoS is above 0.
    pub packet_id: Option<PacketId>,
    /// Properties that travel on, see [`crate::message::MessageRef::properties`].
    pub properties: &'a [u8],
    /// Message Expiry Interval.
    pub expiry_seconds: Option<u32>,
    /// Topic Alias.
    pub topic_alias: Option<u16>,
}

/// One filter of a SUBSCRIBE packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscribeFilter {
    /// As it was sent; validity is the worker's business.
    pub filter: Box<str>,
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling: 0, 1 or 2.
    pub retain_handling: u8,
}

/// A packet from a client, after CONNECT.
#[derive(Debug)]
pub enum Packet<'a> {
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK.
    PubAck {
        /// Its Packet Identifier.
        packet_id: PacketId,
        /// Its Reason Code.
        code: ReasonCode,
    },
    /// PUBREC.
    PubRec {
        /// Its Packet Identifier.
        packet_id: PacketId,
        /// Its Reason Code.
        code: ReasonCode,
    },
    /// PUBREL.
    PubRel {
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// PUBCOMP.
    PubComp {
        /// Its Packet Identifier.
        packet_id: PacketId,
    },
    /// SUBSCRIBE.
    Subscribe {
        /// Its Packet Identifier.
        packet_id: PacketId,
        /// Subscription Identifier, 0: none.
        identifier: u32,
        /// The filters, at least one.
        filters: Vec<SubscribeFilter>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Its Packet Identifier.
        packet_id: PacketId,
        /// The filters, at least one.
        filters: Vec<Box<str>>,
    },
    /// PINGREQ.
    PingReq,
    /// DISCONNECT.
    Disconnect {
        /// Its Reason Code.
        code: ReasonCode,
        /// A changed Session Expiry Interval.
        session_expiry_seconds: Option<u32>,
    },
    /// AUTH.
    Auth {
        /// Its Reason Code.
        code: ReasonCode,
        /// Its method and data.
        authentication: Authentication,
    },
}

/// Why a connection is over, seen from the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The peer closed, or the network failed.
    Network,
    /// The peer sent what cannot be accepted; the code goes into a DISCONNECT.
    Refused(ReasonCode),
}

/// An event for a worker.
#[derive(Debug)]
pub enum Event<'a> {
    /// A packet arrived.
    Packet(ConnSlot, Packet<'a>),
    /// The connection is over.
    Closed(ConnSlot, Closed),
    /// The socket takes bytes again.
    Writable(ConnSlot),
    /// A parked hook answered.
    HookDone(HookToken, HookAnswer),
    /// A batch was committed, or not.
    Persisted(BatchId, Result<(), StoreFault>),
    /// Mail from a worker.
    Mail(Mail),
    /// Go on with retained messages for new subscriptions. To be given, after other events, as
    /// long as the worker is replaying.
    Replay,
    /// Time passed: keep alive, expiry and delayed wills are looked at.
    Tick {
        /// Seconds since 1970-01-01T00:00:00Z, for credentials that expire.
        unix_seconds: u64,
        /// Sockets were not read for a while: silence since the last tick is not the clients'.
        was_deaf: bool,
    },
    /// A tenant's rules changed; decisions are made anew.
    Rules(TenantId, Arc<RuleSet>),
    /// Close every connection of a principal.
    Kick {
        /// The tenant.
        tenant: TenantId,
        /// The principal's name.
        principal: Box<str>,
        /// The reason for DISCONNECT.
        code: ReasonCode,
        /// Whether its sessions end too, with or without a connection: it does not exist any more.
        is_gone: bool,
    },
    /// The broker stops: every connection is closed with 0x8B, Wills are not published.
    Shutdown,
}

/// What workers send each other. Mail from one worker to another arrives in order.
#[derive(Debug)]
pub enum Mail {
    /// A message for the receiver's part of the match set.
    Deliver {
        /// The message.
        message: SharedMessage,
        /// Its id, when it is stored.
        id: Option<MessageId>,
        /// Whom it is for.
        set: Arc<MatchSet>,
    },
    /// A message for one member of a share group.
    Share {
        /// The message.
        message: SharedMessage,
        /// Its id, when it is stored for that member.
        id: Option<MessageId>,
        /// The match set with the group.
        set: Arc<MatchSet>,
        /// The group's place there.
        group: u32,
        /// The member's place in the group.
        member: u32,
    },
    /// The same for a message that another member did not take.
    ShareAgain(Box<ShareAgain>),
    /// Hand over a session (or end it, when `clean`): its client connected elsewhere.
    Take {
        /// Where the session is.
        slot: SessionSlot,
        /// Who asks.
        to: WorkerId,
        /// The place that is kept for it there.
        to_slot: SessionSlot,
        /// Clean Start: end it.
        clean: bool,
    },
    /// The answer to [`Mail::Take`]: the session, or nothing if there is none any more.
    Moved {
        /// The place that was kept for it.
        slot: SessionSlot,
        /// The session.
        state: Option<Box<SessionState>>,
    },
    /// Answer when all that you routed before is in the sender's mailbox.
    Fence {
        /// Who asks.
        from: WorkerId,
        /// What about.
        slot: SessionSlot,
    },
    /// The answer to [`Mail::Fence`].
    FenceDone {
        /// What about.
        slot: SessionSlot,
    },
}

/// A message of a share group on its way to another member than the first.
#[derive(Debug)]
pub struct ShareAgain {
    /// The message.
    pub message: SharedMessage,
    /// Its id, when it is stored for that member.
    pub id: Option<MessageId>,
    /// The member.
    pub member: Member,
    /// The group, and who had the message before.
    pub share: Share,
}
