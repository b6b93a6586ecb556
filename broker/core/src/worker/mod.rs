//! One worker: its connections and sessions, and the one door through which all events come.
//! What must not live here: what a single kind of event does; that is in the files beside.

mod access;
pub mod auto_subscribe;
mod close;
mod commit;
mod connect;
mod delayed;
mod deliver;
mod entry;
mod exchange;
mod hooks;
mod line;
mod moves;
pub mod order;
mod publish;
mod replay;
mod retain;
mod share;
mod subscribe;
mod sys;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::AddAssign;
use std::sync::Arc;

use hashbrown::HashMap;
use slotmap::SlotMap;

use crate::access::RuleSet;
use crate::action::{AccessOrder, Reply, Shell};
use crate::event::{Closed, Event, Mail, Packet};
use crate::hook::{ConnectionFacts, Denial, HookAnswer, Principal};
use crate::ids::{ConnId, ConnSlot, HookToken, SessionSlot, TenantId, WorkerId};
use crate::limits::Limits;
use crate::ordering::Line;
use crate::reason::{DropReason, ReasonCode};
use crate::rewrite::Rewrites;
use crate::router::{RouteRef, Routes, Shared, TenantShared};
use crate::session::SessionState;
use crate::session::will::Will;
use crate::time::Millis;
use crate::topic::TopicFilter;

use access::Decisions;
use auto_subscribe::AutoSubscribe;
use commit::Commits;
use connect::PendingConnect;
use delayed::Delayed;
use entry::Entry;
use exchange::Exchange;
use moves::Arriving;
use share::Stray;
use subscribe::{Change, Request};

/// What a worker is made of.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its number.
    pub id: WorkerId,
    /// How many workers there are.
    pub workers: u16,
    /// Makes assigned Client Identifiers and what is chosen by chance differ between runs of the
    /// broker.
    pub seed: u64,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Its bounds.
    pub limits: Limits,
    /// The access order.
    pub access: AccessOrder,
    /// What the operator arranged about topics.
    pub topics: Arc<TopicSettings>,
}

/// What an operator arranges about topics and messages.
#[derive(Debug, Default)]
pub struct TopicSettings {
    /// Names that are rewritten; none: nothing is looked for.
    pub rewrites: Option<Rewrites>,
    /// Subscriptions that every client gets.
    pub auto_subscribe: Vec<AutoSubscribe>,
    /// How often `$SYS` is published, 0: never.
    pub sys_interval_seconds: u32,
    /// A payload that says it is text has to be text: else it is refused with 0x99.
    pub check_payload_format: bool,
}

/// What a worker counted since it began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// PUBLISH packets received.
    pub messages_received: u64,
    /// PUBLISH packets sent.
    pub messages_sent: u64,
    /// Messages that never reached a session's client, for whichever reason.
    pub messages_dropped: u64,
    /// The same by [`DropReason`].
    pub dropped_by: [u64; DropReason::ALL.len()],
    /// Of those, messages for a session that outlives its connection that were acknowledged to
    /// their publisher, and gave way to a bound.
    pub dropped_acknowledged: u64,
    /// Publishes and subscriptions refused.
    pub denied: u64,
}

impl Counters {
    fn dropped(&mut self, reason: DropReason, is_stored: bool) {
        self.messages_dropped += 1;
        self.dropped_by[reason as usize] += 1;
        self.dropped_acknowledged += u64::from(is_stored && reason.is_by_policy());
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        let Self {
            messages_received,
            messages_sent,
            messages_dropped,
            dropped_by,
            dropped_acknowledged,
            denied,
        } = other;
        self.messages_received += messages_received;
        self.messages_sent += messages_sent;
        self.messages_dropped += messages_dropped;
        for (sum, count) in self.dropped_by.iter_mut().zip(dropped_by) {
            *sum += count;
        }
        self.dropped_acknowledged += dropped_acknowledged;
        self.denied += denied;
    }
}

type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// One worker.
#[derive(Debug)]
pub struct Worker<S: Shell> {
    id: WorkerId,
    workers: u16,
    seed: u64,
    shared: Arc<Shared>,
    limits: Limits,
    access: AccessOrder,
    topics: Arc<TopicSettings>,
    /// Of the worker that publishes `$SYS`.
    sys: Option<sys::Clock>,
    rules: FastMap<TenantId, Arc<RuleSet>>,
    /// Changes whenever remembered access decisions are void.
    generation: u32,
    conns: SlotMap<ConnSlot, Box<Connection<S::Link>>>,
    sessions: SlotMap<SessionSlot, Box<Session<S::Link>>>,
    routes: Routes,
    parked: FastMap<HookToken, Parked>,
    fences: FastMap<SessionSlot, moves::Leaving>,
    timers: BinaryHeap<Reverse<(Millis, SessionSlot)>>,
    commits: Commits,
    delayed: Delayed,
    next_token: u64,
    next_conn: u64,
    next_session: u64,
    next_message: u64,
    /// State of its random numbers.
    dice: u64,
    /// Messages of share groups that their members did not take; none between two events.
    strays: VecDeque<Stray>,
    counters: Counters,
    /// Connections whose session's queue calls for their end.
    overrun: Vec<ConnSlot>,
    /// Sessions whose next slice of retained messages may be made.
    replaying: Vec<SessionSlot>,
    closing_all: bool,
}

/// A Network Connection.
#[derive(Debug)]
struct Connection<L> {
    id: ConnId,
    /// None once the connection is closed.
    link: Option<L>,
    tenant: Arc<TenantShared>,
    facts: Arc<ConnectionFacts>,
    principal: Arc<Principal>,
    phase: Phase,
    session: SessionSlot,
    /// Until the client is connected.
    pending: Option<Box<PendingConnect>>,
    /// Where the client authenticates by exchanging AUTH packets.
    exchange: Option<Box<Exchange>>,
    will: Option<Box<Will>>,
    line: Line<Entry>,
    line_bytes: usize,
    /// QoS 1 publishes in the line; those of QoS 2 are counted by the session.
    unacknowledged_qos1: u16,
    reading: bool,
    requests: VecDeque<Request>,
    route: Option<RouteRef>,
    /// Topic Aliases of the client; the alias is the place plus one.
    aliases: Vec<Option<Box<str>>>,
    decisions: Decisions,
    last_received: Millis,
    keep_alive_ms: u64,
    congested_since: Option<Millis>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Hooks are asked who this is.
    Authenticating,
    /// The session is on its way, or its last connection still drains.
    Waiting,
    /// Connected.
    Live,
    /// Closed; publishes that were received are still worked on.
    Closing,
}

/// A session with what belongs to this worker alone.
#[derive(Debug)]
struct Session<L> {
    state: SessionState,
    live: Option<Live<L>>,
    /// The connection that has it as soon as that is committed.
    connecting: Option<ConnSlot>,
    /// The last connection, while it drains.
    closing: Option<ConnSlot>,
    /// Who gets the session as soon as it is free.
    waiter: Option<Waiter>,
    /// Filters with changes that are not committed.
    changes: FastMap<TopicFilter, Change>,
    /// It is on its way from another worker; what came for it meanwhile.
    arriving: Option<Arriving>,
    /// Whether it is among those that wait for their next slice of retained messages.
    is_replaying: bool,
    /// When it expires; set while it has no connection.
    expires_at: Millis,
}

impl<L> Session<L> {
    /// Whether it has ended with its connection, and only waits for that to drain.
    const fn is_over(&self) -> bool {
        self.state.expiry_seconds == 0 && self.live.is_none() && self.arriving.is_none()
    }

    /// Has the session end as soon as nothing holds it, and in the store at once.
    fn end_when_free(&mut self, commits: &mut Commits) {
        if let Some(arriving) = &mut self.arriving {
            arriving.ends = true;
        } else if self.state.is_durable() {
            commits.push(crate::store::Op::SessionEnd { session: self.state.id });
            self.state.expiry_seconds = 0;
        }
    }
}

#[derive(Debug)]
struct Live<L> {
    conn: ConnSlot,
    link: L,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiter {
    Local(ConnSlot),
    Remote { to: WorkerId, to_slot: SessionSlot, clean: bool },
}

/// Who waits for a hook's answer.
#[derive(Clone, Copy, Debug)]
struct Parked {
    conn: ConnSlot,
    what: ParkedFor,
}

#[derive(Clone, Copy, Debug)]
enum ParkedFor {
    Authenticate,
    /// A step of an exchange of AUTH packets, before CONNACK or later.
    Exchange,
    /// The Will's topic at CONNECT; the step of the access order that was asked.
    Will(usize),
    /// The oldest undecided publish of the connection's line.
    Publish,
    /// The first pending SUBSCRIBE; the step of the access order that was asked.
    Subscribe(usize),
}

impl<S: Shell> Worker<S> {
    /// A worker without connections.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { id, workers, seed, shared, limits, access, topics } = setup;
        let sys_interval = topics.sys_interval_seconds;
        let publishes_sys = id.index() == 0 && sys_interval > 0;
        Self {
            id,
            workers,
            seed,
            shared,
            limits,
            access,
            topics,
            sys: publishes_sys.then(|| sys::Clock::new(sys_interval)),
            rules: FastMap::default(),
            generation: 0,
            conns: SlotMap::default(),
            sessions: SlotMap::default(),
            routes: Routes::default(),
            parked: FastMap::default(),
            fences: FastMap::default(),
            timers: BinaryHeap::new(),
            commits: Commits::default(),
            delayed: Delayed::default(),
            next_token: 0,
            next_conn: 0,
            next_session: 0,
            next_message: 0,
            dice: seed ^ (u64::from(id.0) << 32),
            strays: VecDeque::new(),
            counters: Counters::default(),
            overrun: Vec::new(),
            replaying: Vec::new(),
            closing_all: false,
        }
    }

    /// Does what an event calls for. After a run of events, call [`Worker::flush`].
    pub fn handle(&mut self, now: Millis, event: Event<'_>, shell: &mut S) {
        self.handle_event(now, event, shell);
        self.finish_event(now, shell);
    }

    /// What an event called for that can't be done while a session is worked on. Ends: no message
    /// of a share group goes to a member twice, and no connection is closed twice.
    fn finish_event(&mut self, now: Millis, shell: &mut S) {
        while !self.strays.is_empty() || !self.overrun.is_empty() {
            self.share_again(now, shell);
            self.close_overrun(now, shell);
        }
    }

    fn handle_event(&mut self, now: Millis, event: Event<'_>, shell: &mut S) {
        match event {
            Event::Packet(slot, packet) => self.handle_packet(now, slot, packet, shell),
            Event::Closed(slot, Closed::Network) => {
                self.close_connection(now, slot, None, true, shell);
            }
            Event::Closed(slot, Closed::Refused(code)) => {
                self.fail_connection(now, slot, &Denial::new(code), shell);
            }
            Event::Writable(slot) => {
                if let Some(conn) = self.conns.get_mut(slot) {
                    conn.congested_since = None;
                    let session = conn.session;
                    self.drain(now, session, shell);
                }
            }
            Event::HookDone(token, answer) => self.handle_hook_done(now, token, answer, shell),
            Event::Persisted(batch, result) => self.handle_persisted(now, batch, result, shell),
            Event::Mail(mail) => self.handle_mail(now, mail, shell),
            Event::Replay => self.handle_replay(now, shell),
            Event::Tick { unix_seconds, was_deaf } => {
                self.handle_tick(now, unix_seconds, was_deaf, shell);
            }
            Event::Rules(tenant, rules) => {
                self.rules.insert(tenant, rules);
                self.generation = self.generation.wrapping_add(1);
            }
            Event::Kick { tenant, principal, code, is_gone } => {
                self.handle_kick(now, tenant, &principal, code, is_gone, shell);
            }
            Event::Shutdown => {
                self.closing_all = true;
                let all: Vec<ConnSlot> = self.conns.keys().collect();
                for slot in all {
                    self.close_connection(
                        now,
                        slot,
                        Some(ReasonCode::ServerShuttingDown),
                        false,
                        shell,
                    );
                }
            }
        }
    }

    /// Ends a run of events: what has to be committed is handed to the store.
    pub fn flush(&mut self, shell: &mut S) {
        if let Some((batch, ops)) = self.commits.take_open() {
            shell.persist(batch, ops);
        }
    }

    /// What was counted.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections that are open or drain.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.conns.len()
    }

    /// Sessions, with and without a connection.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Whether nothing waits for a hook, a commit or another worker.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.parked.is_empty()
            && self.commits.is_settled()
            && self.fences.is_empty()
            && self.replaying.is_empty()
    }

    fn handle_packet(&mut self, now: Millis, slot: ConnSlot, packet: Packet<'_>, shell: &mut S) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.phase != Phase::Live {
            return self.handle_early_packet(now, slot, packet, shell);
        }
        conn.last_received = now;
        match packet {
            Packet::Publish(publish) => self.handle_publish(now, slot, &publish, shell),
            Packet::PubAck { packet_id, code: _ } => {
                self.handle_puback(now, slot, packet_id, shell);
            }
            Packet::PubRec { packet_id, code } => {
                self.handle_pubrec(now, slot, packet_id, code, shell);
            }
            Packet::PubRel { packet_id } => self.handle_pubrel(now, slot, packet_id, shell),
            Packet::PubComp { packet_id } => self.handle_pubcomp(now, slot, packet_id, shell),
            Packet::Subscribe { packet_id, identifier, filters } => {
                self.handle_subscribe(now, slot, packet_id, identifier, filters, shell);
            }
            Packet::Unsubscribe { packet_id, filters } => {
                self.handle_unsubscribe(now, slot, packet_id, filters, shell);
            }
            Packet::PingReq => {
                if let Some(link) = &conn.link {
                    shell.send(link, Reply::PingResp);
                }
            }
            Packet::Disconnect { code, session_expiry_seconds } => {
                self.handle_disconnect(now, slot, code, session_expiry_seconds, shell);
            }
            Packet::Auth { code, authentication } => {
                self.handle_auth(now, slot, code, authentication, shell);
            }
        }
    }

    fn handle_hook_done(
        &mut self,
        now: Millis,
        token: HookToken,
        answer: HookAnswer,
        shell: &mut S,
    ) {
        let Some(Parked { conn, what }) = self.parked.remove(&token) else {
            return;
        };
        if !self.conns.contains_key(conn) {
            return;
        }
        match (what, answer) {
            (ParkedFor::Authenticate, HookAnswer::Authenticate(answer)) => {
                self.handle_authenticated(now, conn, answer, shell);
            }
            (ParkedFor::Exchange, HookAnswer::Exchange(answer)) => {
                self.handle_exchanged(now, conn, answer, shell);
            }
            (ParkedFor::Will(step), HookAnswer::Authorize(answer)) => {
                self.authorize_will(now, conn, access::After::Answer(step, answer), shell);
            }
            (ParkedFor::Publish, answer) => {
                self.advance_line(now, conn, Some(answer), shell);
            }
            (ParkedFor::Subscribe(step), HookAnswer::Authorize(answer)) => {
                self.advance_requests(now, conn, Some((step, answer)), shell);
            }
            (_, answer) => {
                debug_assert!(false, "the answer {answer:?} is not to the question {what:?}");
                self.close_connection(now, conn, Some(ReasonCode::UnspecifiedError), true, shell);
            }
        }
    }

    fn handle_mail(&mut self, now: Millis, mail: Mail, shell: &mut S) {
        match mail {
            Mail::Deliver { message, id, set } => {
                let mut kept = Some(Arc::clone(&message));
                self.deliver_here(now, message.as_ref().as_ref(), &mut kept, id, &set, shell);
            }
            Mail::Share { message, id, set, group, member } => {
                let mut kept = Some(Arc::clone(&message));
                let message = message.as_ref().as_ref();
                self.give_share(now, message, &mut kept, id, &set, (group, member), shell);
            }
            Mail::ShareAgain(again) => self.give_again(now, *again, shell),
            Mail::Take { slot, to, to_slot, clean } => {
                self.handle_take(now, slot, to, to_slot, clean, shell);
            }
            Mail::Moved { slot, state } => self.handle_moved(now, slot, state, shell),
            Mail::Fence { from, slot } => self.handle_fence(from, slot, shell),
            Mail::FenceDone { slot } => self.handle_fence_done(slot, shell),
        }
    }

    fn handle_tick(&mut self, now: Millis, unix_seconds: u64, was_deaf: bool, shell: &mut S) {
        let write_timeout = u64::from(self.limits.write_timeout_seconds) * 1000;
        let late: Vec<(ConnSlot, ReasonCode)> = self
            .conns
            .iter_mut()
            .filter_map(|(slot, conn)| {
                if conn.exchange.as_ref().is_some_and(|exchange| exchange.is_late(now)) {
                    return Some((slot, ReasonCode::NotAuthorized));
                }
                if conn.phase != Phase::Live {
                    return None;
                }
                if was_deaf || conn.link.as_ref().is_some_and(|link| shell.is_unheard(link)) {
                    conn.last_received = now;
                }
                if conn.link.as_ref().is_some_and(|link| shell.is_overdue(now, link)) && !was_deaf {
                    return Some((slot, ReasonCode::ImplementationSpecificError));
                }
                let silent = now.since(conn.last_received);
                if conn.keep_alive_ms > 0 && conn.reading && silent > conn.keep_alive_ms {
                    return Some((slot, ReasonCode::KeepAliveTimeout));
                }
                if conn.principal.expires_at_unix_seconds.is_some_and(|at| at <= unix_seconds) {
                    return Some((slot, ReasonCode::MaximumConnectTime));
                }
                let is_congested = shell.is_congested(conn.link.as_ref()?);
                if !is_congested || conn.congested_since.is_none() {
                    conn.congested_since = is_congested.then_some(now);
                }
                let since = conn.congested_since?;
                (now.since(since) > write_timeout).then_some((slot, ReasonCode::QuotaExceeded))
            })
            .collect();
        for (slot, code) in late {
            self.fail_connection(now, slot, &Denial::new(code), shell);
        }
        self.forget_timers();
        if self.id.index() == 0 {
            self.shared.purge_expired(now);
            self.publish_sys(now, shell);
        }
        while let Some(&Reverse((due, slot))) = self.timers.peek() {
            if due > now {
                break;
            }
            self.timers.pop();
            self.handle_due(now, slot, shell);
        }
        self.fire_delayed(now, shell);
    }

    /// Drops timers of sessions that were taken up again, when they are most of all timers.
    fn forget_timers(&mut self) {
        if self.timers.len() < self.limits.timers_spare + 4 * self.sessions.len() {
            return;
        }
        let sessions = &self.sessions;
        self.timers.retain(|Reverse((due, slot))| {
            let Some(session) = sessions.get(*slot) else {
                return false;
            };
            let will = session.state.delayed_will.as_ref();
            session.expires_at == *due || will.is_some_and(|will| will.due == *due)
        });
    }

    /// A number for a hook's question.
    fn token(&mut self) -> HookToken {
        self.next_token += 1;
        HookToken(self.next_token)
    }
}
