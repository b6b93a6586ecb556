//! `$delayed/SECONDS/TOPIC`: a message that is kept and published later.
//!
//! It is authorized for `TOPIC` when it comes, and passes all hooks when it is due. The worker that
//! took it keeps it, so that messages of one connection that are due together are published in the
//! order in which they came.
//! What must not live here: what is published at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::action::Shell;
use crate::event::Publish;
use crate::hook::{ConnectionFacts, Denial, Principal};
use crate::ids::{ConnSlot, MessageId, TenantId};
use crate::limits::{DELAYED_FIRED_MAX, DELAYED_RETRY_SECONDS};
use crate::message::{Message, MessageRef, SharedMessage};
use crate::reason::ReasonCode;
use crate::router::TenantShared;
use crate::store::{Delayed as Stored, Op};
use crate::time::Millis;
use crate::topic::check_topic_name;

use super::Worker;
use super::entry::{Entry, Stage};
use super::publish::{Acknowledgement, rewritten};

const PREFIX: &str = "$delayed/";

/// Whether a Topic Name asks for a delay.
pub(super) fn is_delayed(topic: &str) -> bool {
    topic.starts_with(PREFIX)
}

/// The seconds and the topic of a Topic Name that asks for a delay.
///
/// # Errors
/// If it does not say how long and where, or longer than `seconds_max`.
pub(super) fn split(topic: &str, seconds_max: u32) -> Result<(u32, &str), Denial> {
    let parts = topic.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
    let known = parts.and_then(|(seconds, topic)| {
        let is_number = seconds.bytes().all(|byte| byte.is_ascii_digit());
        let seconds: u32 = seconds.parse().ok().filter(|_| is_number)?;
        let is_good = seconds <= seconds_max && !topic.is_empty() && !is_delayed(topic);
        is_good.then_some((seconds, topic))
    });
    known.ok_or_else(|| Denial {
        code: ReasonCode::TopicNameInvalid,
        reason: Some(
            format!("write $delayed/SECONDS/TOPIC, with at most {seconds_max} seconds").into(),
        ),
    })
}

/// A delayed message that the store keeps, by what it is to be removed again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    id: MessageId,
    bytes: usize,
}

/// A message that waits until it is due.
#[derive(Debug)]
struct Waiting {
    tenant: Arc<TenantShared>,
    facts: Arc<ConnectionFacts>,
    principal: Arc<Principal>,
    message: SharedMessage,
    is_will: bool,
    ticket: Ticket,
}

/// Messages that wait, in the order in which they are due and came.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    by_due: BTreeMap<(Millis, u64), Waiting>,
    next: u64,
}

impl Delayed {
    fn insert(&mut self, due: Millis, waiting: Waiting) {
        self.next += 1;
        self.by_due.insert((due, self.next), waiting);
    }

    fn take_due(&mut self, now: Millis) -> Option<Waiting> {
        let first = self.by_due.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

impl<S: Shell> Worker<S> {
    /// Takes a PUBLISH that asks for a delay: it waits in the connection's line like one whose hook
    /// has yet to answer, and is acknowledged when it is kept.
    pub(super) fn take_delayed(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        publish: &Publish<'_>,
        shell: &mut S,
    ) {
        if check_topic_name(publish.topic).is_err() {
            let code = Some(ReasonCode::TopicNameInvalid);
            return self.close_connection(now, slot, code, true, shell);
        }
        let acknowledgement = (publish.packet_id, publish.qos);
        if publish.packet_id.is_some() && !self.admit(now, slot, acknowledgement, shell) {
            return;
        }
        let publisher = self.conns.get(slot).and_then(|conn| self.sessions.get(conn.session));
        let message = MessageRef {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            expires_at: Millis::NEVER,
            publisher: publisher.map(|session| session.state.id),
        };
        let entry = self.delayed_entry(now, message, publish.expiry_seconds, acknowledgement);
        self.wait_in_line(slot, entry, shell);
        self.advance_line(now, slot, None, shell);
    }

    /// The entry of a message whose topic asks for a delay. Its Message Expiry Interval counts from
    /// when it is due, as a Will's does from its publication.
    pub(super) fn delayed_entry(
        &self,
        now: Millis,
        message: MessageRef<'_>,
        expiry_seconds: Option<u32>,
        acknowledgement: Acknowledgement,
    ) -> Entry {
        let (seconds, topic) = match split(message.topic, self.limits.delay_seconds_max) {
            Ok(parts) => parts,
            Err(denial) => {
                let entry = Entry::new(Message::new(message), acknowledgement, false);
                return Entry { stage: Stage::Refused(denial), ..entry };
            }
        };
        let due = now.plus_seconds(u64::from(seconds));
        let expires_at =
            expiry_seconds.map_or(Millis::NEVER, |seconds| due.plus_seconds(u64::from(seconds)));
        let topic = rewritten(&self.topics, topic);
        let message = Message::new(MessageRef { topic: &topic, expires_at, ..message });
        Entry { due: Some(due), ..Entry::new(message, acknowledgement, false) }
    }

    /// Has the store keep a message that was authorized; its ticket.
    pub(super) fn keep_delayed(
        &mut self,
        slot: ConnSlot,
        message: &SharedMessage,
        due: Millis,
        is_will: bool,
    ) -> Result<Ticket, Denial> {
        let id = self.message_id();
        let Some(conn) = self.conns.get(slot) else {
            return Err(Denial::new(ReasonCode::UnspecifiedError));
        };
        let bytes = message.size();
        if !conn.tenant.reserve_delayed(bytes, &self.limits) {
            return Err(Denial {
                code: ReasonCode::QuotaExceeded,
                reason: Some("the delayed messages of this tenant are at their limit".into()),
            });
        }
        self.commits.push(Op::DelayedPut(Box::new(Stored {
            id,
            tenant: conn.tenant.id,
            message: Arc::clone(message),
            due,
            is_will,
            facts: Arc::clone(&conn.facts),
            principal: Arc::clone(&conn.principal),
        })));
        Ok(Ticket { id, bytes })
    }

    /// A message is kept: it waits until it is due.
    pub(super) fn schedule(
        &mut self,
        slot: ConnSlot,
        message: SharedMessage,
        due: Millis,
        is_will: bool,
        ticket: Ticket,
    ) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let tenant = Arc::clone(&conn.tenant);
        let (facts, principal) = (Arc::clone(&conn.facts), Arc::clone(&conn.principal));
        let waiting = Waiting { tenant, facts, principal, message, is_will, ticket };
        self.delayed.insert(due, waiting);
    }

    /// A message that was due could not be stored for its receivers: it is tried again.
    pub(super) fn schedule_again(&mut self, now: Millis, slot: ConnSlot, entry: Entry) {
        if let Some(ticket) = entry.ticket {
            let due = now.plus_seconds(DELAYED_RETRY_SECONDS);
            self.schedule(slot, entry.message, due, entry.is_will, ticket);
        }
    }

    /// A message was published, or is not to be: it is not kept any longer.
    pub(super) fn end_delayed(&mut self, slot: ConnSlot, ticket: Ticket) {
        self.commits.push(Op::DelayedEnd { id: ticket.id });
        if let Some(conn) = self.conns.get(slot) {
            conn.tenant.release_delayed(ticket.bytes);
        }
    }

    /// The message was never kept: its place is free for another.
    pub(super) fn forget_delayed(&self, slot: ConnSlot, ticket: Ticket) {
        if let Some(conn) = self.conns.get(slot) {
            conn.tenant.release_delayed(ticket.bytes);
        }
    }

    /// Publishes what is due, through lines of connections that are long gone.
    pub(super) fn fire_delayed(&mut self, now: Millis, shell: &mut S) {
        let mut last: Option<(ConnSlot, Arc<ConnectionFacts>)> = None;
        for _ in 0..DELAYED_FIRED_MAX {
            let Some(waiting) = self.delayed.take_due(now) else {
                return;
            };
            let Waiting { tenant, facts, principal, mut message, is_will, ticket } = waiting;
            // No Local is about the client, whose session may be another by now [MQTT-3.8.3-3].
            let session = tenant.directory().get(&facts.client_id).map(|owner| owner.session);
            if session.is_some() && session != message.publisher {
                Arc::make_mut(&mut message).publisher = session;
            }
            let known = last
                .take()
                .filter(|(slot, last)| Arc::ptr_eq(last, &facts) && self.conns.contains_key(*slot));
            let slot = match known {
                Some((slot, _)) => slot,
                None => self.absent_connection(now, &tenant, Arc::clone(&facts), principal),
            };
            last = Some((slot, facts));
            let entry = Entry::of(message, (None, crate::message::QoS::AtMostOnce));
            self.wait_in_line(slot, Entry { is_will, ticket: Some(ticket), ..entry }, shell);
            self.advance_line(now, slot, None, shell);
        }
    }

    /// A principal is gone: what it wanted published later is not.
    pub(super) fn drop_delayed(&mut self, tenant: TenantId, principal: &str) {
        let commits = &mut self.commits;
        self.delayed.by_due.retain(|_, waiting| {
            let is_theirs =
                waiting.tenant.id == tenant && waiting.principal.name.as_deref() == Some(principal);
            if is_theirs {
                commits.push(Op::DelayedEnd { id: waiting.ticket.id });
                waiting.tenant.release_delayed(waiting.ticket.bytes);
            }
            !is_theirs
        });
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_delay_says_how_long_and_where() {
        let known = |topic| split(topic, 100).ok();
        assert_eq!(known("$delayed/5/a/b"), Some((5, "a/b")));
        assert_eq!(known("$delayed/0/a"), Some((0, "a")));
        assert_eq!(known("$delayed/100//a"), Some((100, "/a")));
        for topic in [
            "$delayed/101/a",
            "$delayed/5/",
            "$delayed/5",
            "$delayed//a",
            "$delayed/+5/a",
            "$delayed/-5/a",
            "$delayed/5s/a",
            "$delayed/99999999999/a",
            "$delayed/5/$delayed/5/a",
        ] {
            assert_eq!(known(topic), None, "{topic}");
        }
    }
}
