//! A store that keeps what it is told: batches wait until they are committed or fail.
//! What must not live here: when that happens, and what the broker may do before.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use wasmqtt_core::ids::{BatchId, MessageId, PacketId, SessionId};
use wasmqtt_core::message::QoS;
use wasmqtt_core::store::Op;

use crate::packet::{Uid, uid_of};

/// A batch that was handed over and not yet answered.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: BatchId,
    ops: Vec<Op>,
}

/// A session as it would be found after a restart.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) client_id: String,
    pub(crate) expiry_seconds: u32,
    pub(crate) filters: BTreeMap<String, u8>,
    pub(crate) queue: Vec<MessageId>,
    /// Of these, the ones whose PUBREC came.
    pub(crate) received: Vec<MessageId>,
    pub(crate) inbound: Vec<PacketId>,
}

/// The store of a run, and what it ever committed.
#[derive(Debug, Default)]
pub(crate) struct Store {
    /// By worker, oldest first.
    pub(crate) pending: Vec<VecDeque<Batch>>,
    pub(crate) sessions: BTreeMap<SessionId, Kept>,
    messages: HashMap<MessageId, Uid>,
    owners: HashMap<SessionId, String>,
    /// Which messages were committed for which client.
    enqueued: HashMap<Uid, Vec<String>>,
    retained: HashSet<Uid>,
    /// Delayed messages that are kept.
    pub(crate) delayed: HashMap<MessageId, Uid>,
    /// An operation on something that was never stored.
    pub(crate) stray: Option<Op>,
    /// How often a batch with that message failed.
    failed: HashMap<Uid, usize>,
    pub(crate) failures: usize,
}

impl Store {
    pub(crate) fn new(workers: u16) -> Self {
        Self { pending: (0..workers).map(|_| VecDeque::new()).collect(), ..Self::default() }
    }

    pub(crate) fn persist(&mut self, worker: usize, id: BatchId, ops: Vec<Op>) {
        for op in &ops {
            if let Op::SessionPut { session, client_id, .. } = op {
                self.owners.insert(*session, client_id.to_string());
            }
        }
        self.pending[worker].push_back(Batch { id, ops });
    }

    /// Commits a worker's oldest batch.
    pub(crate) fn commit(&mut self, worker: usize) -> Option<BatchId> {
        let Batch { id, ops } = self.pending[worker].pop_front()?;
        for op in ops {
            self.apply(op);
        }
        Some(id)
    }

    /// A worker's oldest batch fails.
    pub(crate) fn fail(&mut self, worker: usize) -> Option<BatchId> {
        let Batch { id, ops } = self.pending[worker].pop_front()?;
        self.failures += 1;
        let mut lost: Vec<Uid> = ops
            .iter()
            .filter_map(|op| match op {
                // A retained message may be stored for a new subscriber alone.
                Op::Message { message, .. } if !message.retain => uid_of(message.properties()),
                Op::RetainedPut { message, .. } if message.qos > QoS::AtMostOnce => {
                    uid_of(message.properties())
                }
                _ => None,
            })
            .collect();
        lost.dedup();
        for uid in lost {
            *self.failed.entry(uid).or_default() += 1;
        }
        Some(id)
    }

    /// Whether an operation is on a message that its session was given.
    fn is_known(&self, op: &Op) -> bool {
        match op {
            Op::Enqueue { session, message, .. } => {
                self.owners.contains_key(session) && self.messages.contains_key(message)
            }
            Op::InFlight { session, message, .. } | Op::Received { session, message } => {
                self.sessions.get(session).is_none_or(|kept| kept.queue.contains(message))
                    && self.owners.contains_key(session)
            }
            Op::Dequeue { session, .. } => self.owners.contains_key(session),
            _ => true,
        }
    }

    fn apply(&mut self, op: Op) {
        if !self.is_known(&op) {
            self.stray.get_or_insert_with(|| op.clone());
        }
        match op {
            Op::SessionPut { session, client_id, expiry_seconds, .. } => {
                let kept = self.sessions.entry(session).or_default();
                kept.client_id = client_id.to_string();
                kept.expiry_seconds = expiry_seconds;
            }
            Op::SessionEnd { session } => {
                self.sessions.remove(&session);
            }
            Op::SubscriptionPut { session, filter, options } => {
                if let Some(kept) = self.sessions.get_mut(&session) {
                    kept.filters.insert(filter.as_str().to_owned(), options.qos as u8);
                }
            }
            Op::SubscriptionEnd { session, filter } => {
                if let Some(kept) = self.sessions.get_mut(&session) {
                    kept.filters.remove(filter.as_str());
                }
            }
            Op::Message { id, message } => {
                if let Some(uid) = uid_of(message.properties()) {
                    self.messages.insert(id, uid);
                }
            }
            Op::Enqueue { session, message, qos: _ } => self.enqueue(session, message),
            Op::InFlight { .. } => {}
            Op::Received { session, message } => {
                if let Some(kept) = self.sessions.get_mut(&session) {
                    kept.received.push(message);
                }
            }
            Op::Dequeue { session, message } => {
                if let Some(kept) = self.sessions.get_mut(&session) {
                    kept.queue.retain(|id| *id != message);
                }
            }
            Op::InboundPut { session, packet_id } => {
                if let Some(kept) = self.sessions.get_mut(&session) {
                    kept.inbound.push(packet_id);
                }
            }
            Op::InboundEnd { session, packet_id } => {
                if let Some(kept) = self.sessions.get_mut(&session) {
                    kept.inbound.retain(|id| *id != packet_id);
                }
            }
            Op::RetainedPut { message, .. } => {
                self.retained.extend(uid_of(message.properties()));
            }
            Op::RetainedEnd { .. } => {}
            Op::DelayedPut(delayed) => {
                let uid = uid_of(delayed.message.properties()).unwrap_or(Uid::MAX);
                self.delayed.insert(delayed.id, uid);
            }
            Op::DelayedEnd { id } => {
                self.delayed.remove(&id);
            }
        }
    }

    fn enqueue(&mut self, session: SessionId, message: MessageId) {
        if let Some(uid) = self.messages.get(&message)
            && let Some(owner) = self.owners.get(&session)
        {
            self.enqueued.entry(*uid).or_default().push(owner.clone());
        }
        if let Some(kept) = self.sessions.get_mut(&session) {
            kept.queue.push(message);
        }
    }

    /// Whether a message was ever committed for a client.
    pub(crate) fn has_enqueued(&self, client_id: &str, uid: Uid) -> bool {
        self.enqueued.get(&uid).is_some_and(|clients| clients.iter().any(|id| id == client_id))
    }

    /// Whether a message was ever committed as retained.
    pub(crate) fn has_retained(&self, uid: Uid) -> bool {
        self.retained.contains(&uid)
    }

    /// How often storing that message failed.
    pub(crate) fn failed(&self, uid: Uid) -> usize {
        self.failed.get(&uid).copied().unwrap_or(0)
    }

    /// The sessions that are kept of a client.
    pub(crate) fn of_client<'a>(&'a self, client_id: &'a str) -> impl Iterator<Item = &'a Kept> {
        self.sessions.values().filter(move |kept| kept.client_id == client_id)
    }

    /// The number of a stored message.
    pub(crate) fn uid(&self, message: MessageId) -> Option<Uid> {
        self.messages.get(&message).copied()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.iter().all(VecDeque::is_empty)
    }
}
