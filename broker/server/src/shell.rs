//! The server's side of a worker: what the core decides becomes bytes, mail and calls of plugins.
//! What must not live here: any decision.

use std::collections::VecDeque;
use std::sync::Arc;

use wasmqtt_core::action::{Delivery, Observation, Reply, Shell};
use wasmqtt_core::event::Mail;
use wasmqtt_core::hook::{
    AuthenticateAnswer, AuthenticateRequest, AuthorizeAnswer, AuthorizeRequest, ChainMask,
    ConnectionFacts, ExchangeAnswer, ExchangeRequest, HookReply, OnPublishRequest, PublishVerdict,
};
use wasmqtt_core::ids::{BatchId, HookToken, TenantId, WorkerId};
use wasmqtt_core::limits::Limits;
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::router::traffic::Count;
use wasmqtt_core::store::Op;
use wasmqtt_core::time::Millis;

use crate::auth::AuthChain;
use crate::mailbox::{Letter, Mailbox};
use crate::net::encode;
use crate::net::link::{Failure, Link};
use crate::outgoing::Outgoing;
use crate::plugins::WorkerHooks;

/// What a worker needs beside the core.
pub(crate) struct ServerShell {
    id: WorkerId,
    limits: Arc<Limits>,
    /// What clients that ask for it may begin their response topics with.
    response_information: Option<Arc<str>>,
    mailboxes: Arc<[Mailbox]>,
    outboxes: Vec<Vec<Letter>>,
    outgoing: Outgoing,
    has_mail: bool,
    /// Batches that the memory store has taken; sessions are kept in memory.
    persisted: VecDeque<BatchId>,
    auth: Arc<AuthChain>,
    hooks: WorkerHooks,
}

impl ServerShell {
    pub(crate) fn new(
        id: WorkerId,
        limits: Arc<Limits>,
        response_information: Option<Arc<str>>,
        mailboxes: Arc<[Mailbox]>,
        auth: Arc<AuthChain>,
        hooks: WorkerHooks,
    ) -> Self {
        let outboxes = mailboxes.iter().map(|_| Vec::new()).collect();
        let (has_mail, persisted) = (false, VecDeque::new());
        let outgoing = Outgoing::default();
        Self {
            id,
            limits,
            response_information,
            mailboxes,
            outboxes,
            outgoing,
            has_mail,
            persisted,
            auth,
            hooks,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Writes to the sockets what was gathered for them.
    pub(crate) fn flush_outgoing(&mut self) {
        self.outgoing.flush();
    }

    /// Hands mail over: one lock and at most one wake for each other worker.
    pub(crate) fn flush_mail(&mut self) {
        if !std::mem::take(&mut self.has_mail) {
            return;
        }
        for (outbox, mailbox) in self.outboxes.iter_mut().zip(self.mailboxes.iter()) {
            mailbox.append(outbox);
        }
    }

    /// A batch that is committed and not yet reported.
    pub(crate) fn next_persisted(&mut self) -> Option<BatchId> {
        self.persisted.pop_front()
    }

    /// Whether some other worker is so far behind that reading should stop.
    pub(crate) fn is_stalled(&self) -> bool {
        self.mailboxes.len() > 1
            && self
                .mailboxes
                .iter()
                .enumerate()
                .any(|(index, mailbox)| index != self.id.index() && mailbox.is_full())
    }

    /// Has every other worker look whether it may read again.
    pub(crate) fn wake_others(&self) {
        for (index, mailbox) in self.mailboxes.iter().enumerate() {
            if index != self.id.index() {
                mailbox.wake();
            }
        }
    }
}

impl Shell for ServerShell {
    type Link = Link;

    fn is_congested(&mut self, link: &Link) -> bool {
        Outgoing::is_full(link)
    }

    fn is_unheard(&mut self, link: &Link) -> bool {
        link.is_held.get() || Outgoing::is_full(link)
    }

    fn is_overdue(&mut self, now: Millis, link: &Link) -> bool {
        if self.is_unheard(link) || !link.is_reading() {
            link.excuse(now);
        }
        link.is_overdue(now, self.limits.frame_timeout_seconds)
    }

    fn deliver(&mut self, link: &Link, delivery: Delivery<'_>) -> bool {
        let name = |topic: &str| link.naming(topic);
        let is_sent =
            self.outgoing.put(link, |out| encode::publish(out, link.terms, &delivery, name));
        if is_sent {
            link.traffic.add(Count::PublishesSent, 1);
        }
        is_sent
    }

    fn send(&mut self, link: &Link, reply: Reply<'_>) {
        let (limits, information) = (&self.limits, self.response_information.as_deref());
        let encode =
            |out: &mut Vec<u8>| encode::reply(out, link.terms, &reply, limits, information);
        if self.outgoing.put(link, encode) {
            return;
        }
        tracing::info!(
            bytes_max = link.terms.packet_bytes_max,
            packet = reply.name(),
            "closing: an answer is longer than the client's Maximum Packet Size"
        );
        self.outgoing.finish(link);
        let is_connack = matches!(reply, Reply::ConnAck(_));
        link.fail(if is_connack { Failure::ConnAck } else { Failure::Answer });
    }

    fn takes(&mut self, link: &Link, bytes: usize) -> bool {
        bytes <= link.terms.packet_bytes_max as usize
    }

    fn close(&mut self, link: &Link, code: Option<ReasonCode>) {
        self.outgoing.finish(link);
        link.close(code);
    }

    fn set_reading(&mut self, link: &Link, reading: bool) {
        link.set_reading(reading);
    }

    fn mail(&mut self, to: WorkerId, mail: Mail) {
        if let Some(outbox) = self.outboxes.get_mut(to.index()) {
            outbox.push(Letter::Mail(mail));
            self.has_mail = true;
        }
    }

    fn persist(&mut self, batch: BatchId, ops: Vec<Op>) {
        drop(ops);
        self.persisted.push_back(batch);
    }

    fn authenticate(
        &mut self,
        token: HookToken,
        request: AuthenticateRequest,
    ) -> HookReply<AuthenticateAnswer> {
        self.auth.start(self.id, token, request)
    }

    fn auth_exchange(
        &mut self,
        token: HookToken,
        request: ExchangeRequest,
    ) -> HookReply<ExchangeAnswer> {
        self.auth.exchange(self.id, token, request)
    }

    fn authorize(
        &mut self,
        _token: HookToken,
        plugin: u16,
        request: AuthorizeRequest<'_>,
    ) -> HookReply<AuthorizeAnswer> {
        HookReply::Now(self.hooks.authorize(plugin, &request))
    }

    fn on_publish(
        &mut self,
        _token: HookToken,
        request: OnPublishRequest<'_>,
    ) -> HookReply<PublishVerdict> {
        HookReply::Now(self.hooks.on_publish(&request))
    }

    fn chain_mask(&mut self, _tenant: TenantId, topic: &str) -> ChainMask {
        self.hooks.chain_mask(topic)
    }

    fn observe(&mut self, observation: Observation<'_>) {
        match observation {
            Observation::Connected { id, facts, principal, session_present } => tracing::info!(
                connection = %id,
                client_id = &*facts.client_id,
                user = principal.name.as_deref(),
                peer = &*facts.peer,
                listener = &*facts.listener,
                protocol_level = facts.version.level(),
                session_present,
                tls = facts.tls.as_ref().map(|tls| tls.version),
                server_name = facts.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
                certificate = certificate_of(facts),
                "connected"
            ),
            Observation::Reauthenticated { id, facts, principal } => tracing::info!(
                connection = %id,
                client_id = &*facts.client_id,
                user = principal.name.as_deref(),
                "authenticated again"
            ),
            Observation::ConnectRefused { facts, code } => tracing::info!(
                client_id = &*facts.client_id,
                user = facts.username.as_deref(),
                peer = &*facts.peer,
                code = format_args!("{:#04x}", code as u8),
                "connect refused: {}",
                code.text()
            ),
            Observation::Disconnected { id, facts, code } => tracing::info!(
                connection = %id,
                client_id = &*facts.client_id,
                peer = &*facts.peer,
                reason = code.map(ReasonCode::text),
                "disconnected"
            ),
            Observation::Denied { facts, topic, code } => tracing::debug!(
                client_id = &*facts.client_id,
                topic,
                code = format_args!("{:#04x}", code as u8),
                "denied: {}",
                code.text()
            ),
            Observation::AutoSubscribeRefused { facts, filter, code } => tracing::info!(
                client_id = &*facts.client_id,
                filter,
                code = format_args!("{:#04x}", code as u8),
                "not subscribed, as [[auto_subscribe]] says: {}",
                code.text()
            ),
            Observation::Dropped { client_id, topic, reason } => {
                tracing::debug!(client_id, topic, reason = reason.text(), "message dropped");
            }
            Observation::QueueOverflows { client_id, reason } => {
                let policy = self.limits.queue_policy;
                tracing::warn!(client_id, reason = reason.text(), ?policy, "queue full");
            }
            Observation::QueueRecovered { client_id, messages } => {
                tracing::info!(client_id, messages_dropped = messages, "queue empty again");
            }
        }
    }
}

/// A client's certificate, as a log shows it.
fn certificate_of(facts: &ConnectionFacts) -> Option<String> {
    let certificate = facts.tls.as_ref()?.certificate.as_ref()?;
    let hex: String =
        certificate.fingerprint_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = certificate.common_name.as_deref().unwrap_or("no common name");
    Some(format!("{name} (SHA-256 {hex})"))
}
