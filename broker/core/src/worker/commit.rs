//! Group commit: what waits for the store, and for which batch.
//! What must not live here: the store.

use std::collections::VecDeque;

use crate::action::{Reply, Shell};
use crate::event::ShareAgain;
use crate::ids::{BatchId, ConnSlot, MessageId, PacketId, SessionSlot, WorkerId};
use crate::reason::ReasonCode;
use crate::store::{Op, StoreFault};
use crate::time::Millis;

use super::Worker;
use super::subscribe::{Subscribed, Unsubscribed};

/// The open batch, and what happens when batches are committed.
#[derive(Debug)]
pub(super) struct Commits {
    open: Vec<Op>,
    /// Number of the open batch.
    next: u64,
    /// Batches up to and without this one were answered.
    answered: u64,
    after: VecDeque<(BatchId, After)>,
}

impl Default for Commits {
    fn default() -> Self {
        Self { open: Vec::new(), next: 1, answered: 1, after: VecDeque::new() }
    }
}

/// What a commit lets go on.
#[derive(Debug)]
pub(super) enum After {
    /// An entry of a connection's line.
    Publish { conn: ConnSlot, number: u64 },
    /// PUBCOMP.
    PubComp { conn: ConnSlot, packet_id: PacketId, code: ReasonCode },
    /// SUBACK, then retained messages.
    Subscribe(Box<Subscribed>),
    /// UNSUBACK.
    Unsubscribe(Box<Unsubscribed>),
    /// CONNACK.
    Connect { conn: ConnSlot, session_present: bool },
    /// A share group's message goes to another member.
    ShareAgain(Box<ShareAgain>),
    /// Nothing that was routed before waits any longer: another worker's session may move.
    Fence { from: WorkerId, slot: SessionSlot },
    /// The same for a session of this worker.
    OwnFence { slot: SessionSlot },
}

impl Commits {
    /// Adds an operation to the open batch.
    pub(super) fn push(&mut self, op: Op) {
        self.open.push(op);
    }

    /// The open batch, to be handed to the store.
    pub(super) fn take_open(&mut self) -> Option<(BatchId, Vec<Op>)> {
        if self.open.is_empty() {
            return None;
        }
        let batch = BatchId(self.next);
        self.next += 1;
        Some((batch, std::mem::take(&mut self.open)))
    }

    /// Calls for `after` when the open batch is committed. There must be an operation in it.
    pub(super) fn after_open(&mut self, after: After) {
        debug_assert!(!self.open.is_empty(), "an empty batch is never committed");
        self.after.push_back((BatchId(self.next), after));
    }

    /// Calls for `after` when all that was handed over so far, or is about to, is committed;
    /// gives it back if nothing is.
    pub(super) fn after_all(&mut self, after: After) -> Option<After> {
        let last = if self.open.is_empty() { self.next - 1 } else { self.next };
        if last < self.answered {
            return Some(after);
        }
        self.after.push_back((BatchId(last), after));
        None
    }

    /// Whether every batch was answered.
    pub(super) fn is_settled(&self) -> bool {
        self.open.is_empty() && self.answered == self.next
    }

    fn answered(&mut self, batch: BatchId) -> Option<After> {
        self.answered = self.answered.max(batch.0 + 1);
        match self.after.front() {
            Some((waits_for, _)) if *waits_for <= batch => {
                self.after.pop_front().map(|(_, after)| after)
            }
            _ => None,
        }
    }
}

impl<S: Shell> Worker<S> {
    /// An id for a message that is about to be stored.
    pub(super) fn message_id(&mut self) -> MessageId {
        self.message_ids(0)
    }

    /// The same, with so many ids after it that are free to use.
    pub(super) fn message_ids(&mut self, more: usize) -> MessageId {
        let id = MessageId((u64::from(self.id.0) << 48) | (self.next_message + 1));
        self.next_message += 1 + more as u64;
        id
    }

    pub(super) fn handle_persisted(
        &mut self,
        now: Millis,
        batch: BatchId,
        result: Result<(), StoreFault>,
        shell: &mut S,
    ) {
        while let Some(after) = self.commits.answered(batch) {
            self.go_on(now, after, result, shell);
        }
    }

    pub(super) fn go_on(
        &mut self,
        now: Millis,
        after: After,
        result: Result<(), StoreFault>,
        shell: &mut S,
    ) {
        match after {
            After::Publish { conn, number } => {
                self.handle_publish_committed(now, conn, number, result, shell);
            }
            After::PubComp { conn, packet_id, code } => {
                let Some(connection) = self.conns.get(conn) else {
                    return;
                };
                match (result, &connection.link) {
                    (Ok(()), Some(link)) => {
                        shell.send(link, Reply::PubComp(packet_id, code));
                    }
                    (Ok(()), None) => {}
                    (Err(fault), _) => {
                        let code = fault_code(fault);
                        self.close_connection(now, conn, Some(code), true, shell);
                    }
                }
            }
            After::Subscribe(subscribed) => self.finish_subscribe(now, *subscribed, result, shell),
            After::Unsubscribe(unsubscribed) => {
                self.finish_unsubscribe(*unsubscribed, result, shell);
            }
            After::Connect { conn, session_present } => {
                self.finish_connect(now, conn, session_present, result, shell);
            }
            After::ShareAgain(again) => {
                // If it could not be stored it goes on all the same: it was promised to somebody.
                let id = again.id.filter(|_| result.is_ok());
                self.give_or_mail(now, ShareAgain { id, ..*again }, shell);
            }
            After::Fence { from, slot } => {
                shell.mail(from, crate::event::Mail::FenceDone { slot });
            }
            After::OwnFence { slot } => self.handle_fence_done(slot, shell),
        }
    }
}

/// The Reason Code that a client sees of a store's fault.
pub(super) const fn fault_code(fault: StoreFault) -> ReasonCode {
    match fault {
        StoreFault::Full => ReasonCode::QuotaExceeded,
        StoreFault::Failed => ReasonCode::UnspecifiedError,
    }
}
