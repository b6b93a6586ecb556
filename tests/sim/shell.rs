//! The world around the workers: wires, mailboxes, parked hooks, the store. It tells the model
//! what the workers do.
//! What must not live here: when something arrives (`world`), and whether it is right (`model`).

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use wasmqtt_core::action::{Delivery, Observation, Reply, Shell};
use wasmqtt_core::event::Mail;
use wasmqtt_core::hook::{
    AuthenticateAnswer, AuthenticateRequest, AuthorizeAnswer, AuthorizeRequest, ChainMask, Denial,
    ExchangeAnswer, ExchangeRequest, HookAnswer, HookReply, OnPublishRequest, Principal,
    PublishVerdict,
};
use wasmqtt_core::ids::{BatchId, ConnSlot, HookToken, SessionSlot, TenantId, WorkerId};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::store::Op;
use wasmqtt_core::time::Millis;

use crate::model::Model;
use crate::packet::{FromClient, ToClient, uid_of};
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::store::Store;
use crate::trace;

/// A connection, by its number in the run.
pub(crate) type LinkIx = usize;

/// Both ends of a connection and what is between.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) worker: usize,
    pub(crate) slot: Option<ConnSlot>,
    pub(crate) to_server: VecDeque<FromClient>,
    pub(crate) to_client: VecDeque<ToClient>,
    /// Packets that the socket takes before it is full.
    pub(crate) capacity: usize,
    pub(crate) writable_due: bool,
    pub(crate) reading: bool,
    /// The worker closed it.
    pub(crate) server_closed: bool,
    /// The client closed it; the worker may not know yet.
    pub(crate) client_closed: bool,
    /// The worker was told.
    pub(crate) told: bool,
}

/// Everything around the workers of a run.
#[derive(Debug)]
pub(crate) struct SimShell {
    pub(crate) worker: usize,
    pub(crate) now: Millis,
    pub(crate) rng: Rng,
    pub(crate) scenario: Scenario,
    /// Late answers, failing commits and the like; off when the run comes to its end.
    pub(crate) chaos: bool,
    pub(crate) links: Vec<Link>,
    /// From worker, to worker.
    pub(crate) mail: Vec<Vec<VecDeque<Mail>>>,
    /// By worker.
    pub(crate) parked: Vec<Vec<(HookToken, HookAnswer)>>,
    pub(crate) store: Store,
    pub(crate) model: Model,
    /// Places that wait for a session.
    pub(crate) arriving: HashSet<(usize, SessionSlot)>,
    pub(crate) trace: Option<Vec<String>>,
}

impl SimShell {
    fn parks(&mut self, percent: u32) -> bool {
        self.rng.chance(percent)
    }

    fn park(&mut self, token: HookToken, answer: HookAnswer) {
        self.model.cover.hit("hook parked");
        self.parked[self.worker].push((token, answer));
    }

    fn push(&mut self, link: LinkIx, packet: ToClient) {
        let link = &mut self.links[link];
        link.to_client.push_back(packet);
        if link.to_client.len() >= link.capacity {
            link.writable_due = true;
        }
    }

    fn ttl(&mut self) -> u32 {
        self.rng.pick(&[0, 0, 1000, u32::MAX])
    }
}

impl Shell for SimShell {
    type Link = LinkIx;

    fn is_congested(&mut self, link: &LinkIx) -> bool {
        let wire = &mut self.links[*link];
        let is_congested = wire.to_client.len() >= wire.capacity;
        if is_congested {
            wire.writable_due = true;
            self.model.on_congested(*link);
        }
        is_congested
    }

    fn is_unheard(&mut self, link: &LinkIx) -> bool {
        let wire = &self.links[*link];
        let is_unheard = wire.to_client.len() >= wire.capacity;
        if is_unheard {
            self.model.on_heard(*link);
        }
        is_unheard
    }

    /// Packets are never handed over in parts here.
    fn is_overdue(&mut self, _: Millis, _: &LinkIx) -> bool {
        false
    }

    fn deliver(&mut self, link: &LinkIx, delivery: Delivery<'_>) -> bool {
        let client = self.links[*link].client;
        if delivery.message.payload.len() > self.scenario.clients[client].payload_bytes_max {
            trace!(self, "  {link} too large: {:?}", uid_of(delivery.message.properties));
            self.model.cover.hit("message too large");
            return false;
        }
        trace!(
            self,
            "  {link} < PUBLISH {:?} {} {:?} id {:?} dup {} retain {} subscriptions {:?} expiry {:?}",
            uid_of(delivery.message.properties),
            delivery.message.topic,
            delivery.qos,
            delivery.packet_id,
            delivery.dup,
            delivery.retain,
            delivery.subscription_ids,
            delivery.expiry_seconds,
        );
        if self.links[*link].server_closed {
            self.model.fail(format!("PUBLISH to the closed link {link}"));
        }
        self.model.on_deliver(*link, &delivery, &self.store);
        let Delivery { message, qos, packet_id, .. } = delivery;
        let uid = uid_of(message.properties).unwrap_or(u32::MAX);
        self.push(*link, ToClient::Publish { uid, qos, packet_id });
        true
    }

    fn send(&mut self, link: &LinkIx, reply: Reply<'_>) {
        trace!(self, "  {link} < {reply:?}");
        if self.links[*link].server_closed {
            self.model.fail(format!("{reply:?} to the closed link {link}"));
        }
        let packet = match reply {
            Reply::ConnAck(connack) => {
                self.model.on_connack(*link, connack, &self.store);
                let session_present = connack.session_present;
                ToClient::ConnAck { code: connack.code, session_present }
            }
            Reply::PubAck(packet_id, code, _) => {
                self.model.on_puback(*link, packet_id, code, &self.store);
                ToClient::PubAck(packet_id)
            }
            Reply::PubRec(packet_id, code, _) => {
                self.model.on_pubrec(*link, packet_id, code, &self.store);
                ToClient::PubRec(packet_id, code)
            }
            Reply::PubRel(packet_id, code) => {
                self.model.on_pubrel(*link, packet_id, code);
                ToClient::PubRel(packet_id)
            }
            Reply::PubComp(packet_id, code) => {
                self.model.on_pubcomp(*link, packet_id, code, &self.store);
                ToClient::PubComp(packet_id)
            }
            Reply::SubAck(packet_id, codes) => {
                self.model.on_suback(*link, packet_id, codes, &self.store);
                ToClient::Other
            }
            Reply::UnsubAck(packet_id, codes) => {
                self.model.on_unsuback(*link, packet_id, codes, &self.store);
                ToClient::Other
            }
            Reply::PingResp => ToClient::Other,
            Reply::Auth(code, proof) => {
                self.model.on_auth(*link, code, proof);
                ToClient::Auth(code)
            }
        };
        self.push(*link, packet);
    }

    fn close(&mut self, link: &LinkIx, code: Option<ReasonCode>) {
        trace!(self, "  {link} < close {code:?}");
        if self.links[*link].server_closed {
            self.model.fail(format!("link {link} is closed twice"));
        }
        self.links[*link].server_closed = true;
        self.links[*link].to_client.push_back(ToClient::Close);
        self.model.on_close(*link, code);
    }

    fn takes(&mut self, link: &LinkIx, bytes: usize) -> bool {
        let client = self.links[*link].client;
        bytes <= self.scenario.clients[client].payload_bytes_max.saturating_mul(10)
    }

    fn set_reading(&mut self, link: &LinkIx, reading: bool) {
        trace!(self, "  {link} reading {reading}");
        if self.links[*link].server_closed {
            self.model.fail(format!("reading {reading} of the closed link {link}"));
        }
        self.model.on_reading(*link, reading);
        self.links[*link].reading = reading;
    }

    fn mail(&mut self, to: WorkerId, mail: Mail) {
        trace!(self, "  mail {} -> {}: {}", self.worker, to.0, summary(&mail));
        let to = to.index();
        match &mail {
            Mail::Take { to, to_slot, .. } => {
                self.model.cover.hit("session asked from another worker");
                self.arriving.insert((to.index(), *to_slot));
            }
            Mail::Moved { state: Some(state), .. } => {
                self.model.cover.hit("session moved");
                if state.outbound.in_flight() > 0 {
                    self.model.cover.hit("session moved with messages in flight");
                }
                if state.outbound.queued() > 0 {
                    self.model.cover.hit("session moved with messages queued");
                }
                if !state.replays.is_empty() {
                    self.model.cover.hit("session moved amid a replay");
                }
                if !state.inbound.is_empty() {
                    self.model.cover.hit("session moved with received set");
                }
            }
            Mail::Deliver { .. } => self.model.cover.hit("message mailed"),
            Mail::Share { .. } => self.model.cover.hit("shared message mailed"),
            Mail::ShareAgain(_) => self.model.cover.hit("shared message mailed again"),
            Mail::Moved { .. } | Mail::Fence { .. } | Mail::FenceDone { .. } => {}
        }
        if to == self.worker {
            self.model.fail(format!("worker {to} mails itself"));
        }
        self.mail[self.worker][to].push_back(mail);
    }

    fn persist(&mut self, batch: BatchId, ops: Vec<Op>) {
        trace!(self, "  worker {} persists {batch:?} of {} operations", self.worker, ops.len());
        self.model.cover.hit("batch");
        self.store.persist(self.worker, batch, ops);
    }

    fn authenticate(
        &mut self,
        token: HookToken,
        request: AuthenticateRequest,
    ) -> HookReply<AuthenticateAnswer> {
        let link: LinkIx = request.connection.listener.parse().unwrap();
        let answer = match self.model.links[link].refused {
            Some(code) => AuthenticateAnswer::Deny(Denial::new(code)),
            None => AuthenticateAnswer::Allow(Arc::new(Principal {
                name: Some((&*request.connection.peer).into()),
                ..Principal::default()
            })),
        };
        if self.parks(self.scenario.auth_park_percent) {
            self.park(token, HookAnswer::Authenticate(answer));
            return HookReply::Parked;
        }
        HookReply::Now(answer)
    }

    fn auth_exchange(
        &mut self,
        token: HookToken,
        request: ExchangeRequest,
    ) -> HookReply<ExchangeAnswer> {
        let link: LinkIx = request.connection.listener.parse().unwrap();
        let answer = self.model.step_of_exchange(link, &request);
        if self.parks(self.scenario.auth_park_percent) {
            self.park(token, HookAnswer::Exchange(answer));
            return HookReply::Parked;
        }
        HookReply::Now(answer)
    }

    fn authorize(
        &mut self,
        token: HookToken,
        plugin: u16,
        request: AuthorizeRequest<'_>,
    ) -> HookReply<AuthorizeAnswer> {
        let AuthorizeRequest { connection, action, topic, qos, retain, .. } = request;
        let verdict =
            self.scenario.judge.plugin(plugin, &connection.peer, (action, topic), qos, retain);
        let answer = AuthorizeAnswer { verdict, ttl_ms: self.ttl() };
        if self.parks(self.scenario.park_percent) {
            self.park(token, HookAnswer::Authorize(answer));
            return HookReply::Parked;
        }
        HookReply::Now(answer)
    }

    fn on_publish(
        &mut self,
        token: HookToken,
        request: OnPublishRequest<'_>,
    ) -> HookReply<PublishVerdict> {
        let message = request.message;
        let uid = uid_of(message.properties).unwrap_or(u32::MAX);
        let verdict = self.scenario.judge.verdict(uid, message.qos, message.retain);
        if self.parks(self.scenario.park_percent) {
            self.park(token, HookAnswer::OnPublish(verdict));
            return HookReply::Parked;
        }
        HookReply::Now(verdict)
    }

    fn chain_mask(&mut self, _tenant: TenantId, topic: &str) -> ChainMask {
        ChainMask(u32::from(self.scenario.judge.is_hooked(topic)))
    }

    fn observe(&mut self, observation: Observation<'_>) {
        if let Observation::Dropped { client_id, topic, reason } = observation {
            trace!(self, "  dropped for {client_id}: {topic} {reason:?}");
            self.model.on_dropped(client_id, topic, reason);
        }
    }
}

fn summary(mail: &Mail) -> String {
    match mail {
        Mail::Deliver { message, set, .. } => {
            format!("deliver {:?} to {}", uid_of(message.properties()), set.len())
        }
        Mail::Share { message, group, member, .. } => {
            format!("share {:?}: {group} {member}", uid_of(message.properties()))
        }
        Mail::ShareAgain(again) => {
            let uid = uid_of(again.message.properties());
            format!("share {uid:?} again: {:?}", again.member.target.session)
        }
        Mail::Take { slot, to_slot, clean, .. } => {
            format!("take {slot:?} for {to_slot:?} clean {clean}")
        }
        Mail::Moved { slot, state } => format!("moved {slot:?} {}", state.is_some()),
        Mail::Fence { slot, .. } => format!("fence {slot:?}"),
        Mail::FenceDone { slot } => format!("fence done {slot:?}"),
    }
}
