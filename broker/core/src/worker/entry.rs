//! A publish in a connection's ordering line.
//! What must not live here: how it gets through.

use std::sync::Arc;

use crate::hook::Denial;
use crate::ids::{MessageId, PacketId};
use crate::message::{Message, QoS, SharedMessage};
use crate::router::MatchSet;
use crate::store::StoreFault;
use crate::time::Millis;

use super::delayed::Ticket;
use super::publish::Acknowledgement;
use super::share::Chosen;

/// A publish that could not pass at once.
#[derive(Debug)]
pub(super) struct Entry {
    /// The message, as far as it was changed.
    pub(super) message: SharedMessage,
    /// The Packet Identifier to acknowledge; none at QoS 0 and for a Will.
    pub(super) packet_id: Option<PacketId>,
    /// QoS of the packet: which acknowledgement it gets.
    pub(super) acknowledge: QoS,
    /// Whether it is a Will.
    pub(super) is_will: bool,
    /// When it is to be published, if it asks for a delay: until then it is kept.
    pub(super) due: Option<Millis>,
    /// What the store keeps of it, of a message that is or was delayed.
    pub(super) ticket: Option<Ticket>,
    /// Bytes that count against the line's bound.
    pub(super) bytes: usize,
    /// How far it is.
    pub(super) stage: Stage,
}

/// How far a publish is.
#[derive(Debug)]
pub(super) enum Stage {
    /// Hooks have yet to speak.
    Hooks(Hooks),
    /// It may pass; it waits for the commit, or for those before it.
    Accepted {
        set: Arc<MatchSet>,
        /// The members of its groups that get the message.
        chosen: Chosen,
        id: Option<MessageId>,
        /// None: waits for its commit.
        committed: Option<Result<(), StoreFault>>,
    },
    /// It may not.
    Refused(Denial),
}

/// Which hook is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hooks {
    /// `authorize` for the topic as published, from the start of the access order.
    Authorize,
    /// `authorize`, asked at that step and not yet answered.
    AuthorizeAsked(usize),
    /// `on-publish`, asked and not yet answered.
    OnPublishAsked,
    /// `authorize` for the message as `on-publish` changed it.
    Again,
    /// The same, asked at that step and not yet answered.
    AgainAsked(usize),
}

impl Entry {
    /// An entry with that message, before its first hook.
    pub(super) fn new(message: Message, acknowledgement: Acknowledgement, is_will: bool) -> Self {
        Self { is_will, ..Self::of(Arc::new(message), acknowledgement) }
    }

    /// The same of a message that is shared already.
    pub(super) fn of(message: SharedMessage, (packet_id, acknowledge): Acknowledgement) -> Self {
        let bytes = message.size();
        let stage = Stage::Hooks(Hooks::Authorize);
        Self {
            message,
            packet_id,
            acknowledge,
            is_will: false,
            due: None,
            ticket: None,
            bytes,
            stage,
        }
    }

    /// What it is acknowledged by.
    pub(super) const fn acknowledgement(&self) -> Acknowledgement {
        (self.packet_id, self.acknowledge)
    }
}
