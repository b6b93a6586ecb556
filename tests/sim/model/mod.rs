//! The naive model: what MQTT promises, kept as plain lists and checked at every packet that a
//! worker sends. Written from the specification, not from the worker.
//! What must not live here: tries, caches, queues with bounds, or anything else that is clever.

mod connect;
mod delayed;
mod deliver;
mod dues;
mod exchange;
mod flight;
mod groups;
mod publish;
mod retained;
mod settle;
mod subscribe;
mod will;

pub(crate) use connect::Asked;

use std::collections::{BTreeMap, BTreeSet};

use wasmqtt_core::ids::PacketId;
use wasmqtt_core::limits::Limits;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::{ReasonCode, Version};
use wasmqtt_core::time::Millis;

use crate::coverage::Coverage;
use crate::hooks::{Fate, Judge};
use crate::packet::{Content, Uid};
use crate::shell::LinkIx;

/// The clock at the beginning of a run.
pub(crate) const START: Millis = Millis(1_000);

/// Logical time: one per event that a worker is given.
pub(crate) type Step = u64;
pub(crate) type ClientIx = usize;
pub(crate) type SessionIx = usize;
pub(crate) type AttemptIx = usize;

/// What is known of a client beforehand.
#[derive(Debug)]
pub(crate) struct ClientFacts {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) version: Version,
    pub(crate) payload_bytes_max: usize,
}

/// A Will of a connection, or one that waits for its delay.
#[derive(Clone, Debug)]
pub(crate) struct WillFacts {
    pub(crate) content: Content,
    pub(crate) delay_seconds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Connecting,
    Live,
    Dead,
}

/// A connection as the model sees it.
#[derive(Debug)]
pub(crate) struct LinkState {
    pub(crate) client: ClientIx,
    pub(crate) phase: Phase,
    session: SessionIx,
    clean: bool,
    expiry_seconds: u32,
    receive_maximum: u16,
    keep_alive_seconds: u16,
    will: Option<WillFacts>,
    /// What authentication says.
    pub(crate) refused: Option<ReasonCode>,
    /// Whether CONNECT named a method, and the exchange that runs.
    has_method: bool,
    exchange: Option<exchange::Exchange>,
    began: Step,
    lived: Step,
    last_packet: Millis,
    /// When its socket was last seen full.
    congested: Step,
    ever_congested: bool,
    /// When its session's queue lost a message, where the policy is to disconnect.
    overrun: Option<Step>,
    /// Publishes to acknowledge, oldest first.
    awaiting: Vec<AttemptIx>,
    /// QoS 2 publishes that were handed over on this connection and are not completed.
    exchanges: Vec<PacketId>,
    /// PUBREC that is due at once for a duplicate.
    duplicates: Vec<PacketId>,
    releases_due: Vec<PacketId>,
    completes_due: Vec<PacketId>,
    requests: Vec<subscribe::Request>,
    must_close: Option<ReasonCode>,
    kicked: bool,
    /// It sent more than Receive Maximum, unless something of that is a duplicate.
    exceeded: bool,
}

/// A session as the model sees it.
#[derive(Debug)]
pub(crate) struct SessionState {
    client: ClientIx,
    /// The Client Identifier that the broker assigned.
    assigned: Option<String>,
    began: Step,
    ended: bool,
    /// It may have been ended by a CONNECT that was never answered.
    doubtful: bool,
    expiry_seconds: u32,
    link: Option<LinkIx>,
    /// When its connection was lost, and when something last may have made that count anew.
    lost_at: Millis,
    touched_at: Millis,
    rested: bool,
    subscriptions: Vec<subscribe::Subscription>,
    inbound: Vec<publish::Inbound>,
    in_flight: Vec<flight::InFlight>,
    taken: Vec<deliver::Taken>,
    replays: Vec<retained::Replay>,
    /// Subscriptions whose retained messages may still be on their way.
    replaying: Vec<retained::Replaying>,
    /// Deliveries that were taken for live ones, and the replays that they may have been.
    either: Vec<(AttemptIx, usize)>,
    /// Messages of which a live copy and a replay looked the same.
    alike: BTreeSet<Uid>,
    /// Messages that it must get, and that it need not get any more.
    musts: Vec<AttemptIx>,
    excused: Vec<Uid>,
    /// By publishing session: the last delivered attempt of QoS 0, and of the others.
    order: BTreeMap<SessionIx, (AttemptIx, AttemptIx)>,
    drops: Vec<(Step, String)>,
    will: Option<will::Delayed>,
}

/// A PUBLISH that a worker was given, or a Will that may be published.
#[derive(Debug)]
pub(crate) struct Attempt {
    uid: Uid,
    client: ClientIx,
    session: SessionIx,
    is_will: bool,
    /// Its session may be another's by the time it passed its hooks: No Local is not sure.
    is_delayed: bool,
    packet_id: Option<PacketId>,
    qos: QoS,
    /// A repetition of a QoS 2 publish whose first outcome nobody saw.
    is_repetition: bool,
    fate: Fate,
    expires_at: Millis,
    /// When the first attempt was handed over, and this one.
    first_handed: Step,
    handed: Step,
    done: Option<Step>,
    settled: Option<Step>,
    outcome: Outcome,
    /// False for a Will that may have been cancelled.
    is_sure: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Open,
    Accepted,
    Refused,
}

/// The model of a run.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) step: Step,
    pub(crate) now: Millis,
    limits: Limits,
    judge: Judge,
    pub(crate) violation: Option<String>,
    pub(crate) clients: Vec<ClientFacts>,
    pub(crate) links: Vec<LinkState>,
    sessions: Vec<SessionState>,
    /// By client: its session, and whether one may be there that the model does not know.
    current: Vec<Option<SessionIx>>,
    unknown_session: Vec<bool>,
    attempts: Vec<Attempt>,
    delayed: Vec<delayed::Delayed>,
    unsettled: Vec<AttemptIx>,
    by_uid: Vec<Vec<AttemptIx>>,
    topics: BTreeMap<String, retained::Topic>,
    groups: groups::Groups,
    shutting_down: bool,
    /// When nothing was on its way for the last time.
    settled: Step,
    /// Whether the store ever failed.
    pub(crate) store_failed: bool,
    pub(crate) cover: Coverage,
}

impl Model {
    pub(crate) fn new(limits: Limits, judge: Judge, clients: Vec<ClientFacts>) -> Self {
        let groups = groups::Groups::new(&limits, &clients);
        Self {
            step: 1,
            now: START,
            limits,
            judge,
            violation: None,
            current: clients.iter().map(|_| None).collect(),
            unknown_session: clients.iter().map(|_| false).collect(),
            clients,
            links: Vec::new(),
            sessions: Vec::new(),
            attempts: Vec::new(),
            delayed: Vec::new(),
            unsettled: Vec::new(),
            by_uid: Vec::new(),
            topics: BTreeMap::new(),
            groups,
            shutting_down: false,
            settled: 0,
            store_failed: false,
            cover: Coverage::default(),
        }
    }

    /// Notes a violation; the first one counts.
    pub(crate) fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// Sessions that are there for all the model knows.
    fn living(&self) -> impl Iterator<Item = SessionIx> {
        (0..self.sessions.len()).filter(|session| !self.sessions[*session].ended)
    }

    /// A number for a new message.
    pub(crate) fn next_uid(&mut self) -> Uid {
        self.by_uid.push(Vec::new());
        u32::try_from(self.by_uid.len() - 1).unwrap()
    }

    /// What is delivered of an attempt, unless it is refused.
    fn passed(&self, attempt: AttemptIx) -> Option<&Content> {
        match &self.attempts[attempt].fate {
            Fate::Pass(content) => Some(content),
            Fate::Refuse(_) => None,
        }
    }

    /// Whether a connection is up for the model.
    pub(crate) fn is_live(&self, link: LinkIx) -> bool {
        self.links[link].phase == Phase::Live
    }
}

/// Whether a filter matches a topic [MQTT 4.7], by looking at one level after the other.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && (filter.starts_with('#') || filter.starts_with('+')) {
        return false; // [MQTT-4.7.2-1]
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    for (index, level) in filter.iter().enumerate() {
        match *level {
            "#" => return true,
            "+" if index < topic.len() => {}
            level if topic.get(index) == Some(&level) => {}
            _ => return false,
        }
    }
    filter.len() == topic.len()
}
