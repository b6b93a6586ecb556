//! Connections and sessions: who is connected, which session it got, when that ends [MQTT 3.1, 4.1].
//! What must not live here: messages.

use wasmqtt_core::action::ConnAck;
use wasmqtt_core::hook::AccessAction;
use wasmqtt_core::ids::PacketId;
use wasmqtt_core::reason::{ReasonCode, Version};
use wasmqtt_core::time::Millis;

use super::exchange::Exchange;
use super::publish::Arrival;
use super::{ClientIx, LinkState, Model, Phase, SessionIx, SessionState, WillFacts};
use crate::packet::Plan;
use crate::shell::LinkIx;
use crate::store::Store;

/// What a CONNECT asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) client: ClientIx,
    pub(crate) clean: bool,
    pub(crate) expiry_seconds: u32,
    pub(crate) receive_maximum: u16,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) will: Option<WillFacts>,
    pub(crate) refused: Option<ReasonCode>,
    /// It authenticates by AUTH packets.
    pub(crate) exchange: Option<Plan>,
}

impl Model {
    /// A worker is given a CONNECT.
    pub(crate) fn on_connect(&mut self, asked: Asked) -> LinkIx {
        let Asked { client, clean, .. } = asked;
        let is_assigned = self.clients[client].id.is_empty();
        if let Some(session) = self.current[client]
            && asked.refused.is_none()
            && !is_assigned
        {
            if self.sessions[session].link.is_some() {
                self.cover.hit("takeover");
            }
            self.touch(session, clean);
        }
        self.links.push(LinkState {
            client,
            phase: Phase::Connecting,
            session: SessionIx::MAX,
            clean,
            expiry_seconds: asked.expiry_seconds.min(self.limits.session_expiry_seconds_max),
            receive_maximum: asked.receive_maximum,
            keep_alive_seconds: asked.keep_alive_seconds,
            will: asked.will,
            refused: asked.refused,
            has_method: asked.exchange.is_some(),
            exchange: asked.exchange.map(|plan| Exchange::new(plan, self.now)),
            began: self.step,
            lived: 0,
            last_packet: self.now,
            congested: 0,
            ever_congested: false,
            overrun: None,
            awaiting: Vec::new(),
            exchanges: Vec::new(),
            duplicates: Vec::new(),
            releases_due: Vec::new(),
            completes_due: Vec::new(),
            requests: Vec::new(),
            must_close: None,
            kicked: false,
            exceeded: false,
        });
        self.links.len() - 1
    }

    /// A CONNECT that may or may not come through changes what can be said of a session.
    pub(super) fn touch(&mut self, session: SessionIx, clean: bool) {
        self.sessions[session].rested = false;
        self.sessions[session].touched_at = self.now;
        if clean {
            self.sessions[session].doubtful = true;
        }
        self.doubt_will(session, clean);
    }

    /// A worker answers a CONNECT.
    pub(crate) fn on_connack(&mut self, link: LinkIx, connack: ConnAck<'_>, store: &Store) {
        let state = &self.links[link];
        if state.phase != Phase::Connecting {
            return self.fail(format!("CONNACK on link {link}, which is {:?}", state.phase));
        }
        let client = state.client;
        let refusal = self.expected_refusal(link);
        if connack.code.is_error() {
            let is_expected = match refusal {
                _ if self.may_end_exchange(link, connack.code) => true,
                Some(code) => connack.code == code,
                None => self.may_refuse(link, connack.code),
            };
            if connack.code == ReasonCode::QuotaExceeded && !self.store_failed {
                self.cover.hit("no room for a session");
            }
            if connack.session_present || !is_expected {
                self.fail(format!("link {link} is refused by {connack:?}, expected {refusal:?}"));
            }
            return;
        }
        if let Some(code) = refusal {
            return self.fail(format!("link {link} is accepted; it must be refused by {code:?}"));
        }
        self.end_exchange_by_connack(link, &connack);
        let is_assigned = self.clients[client].id.is_empty();
        if connack.assigned_client_id.is_some() != is_assigned {
            self.fail(format!("link {link}: {:?}", connack.assigned_client_id));
        }
        if let Some(session) = self.current[client]
            && let Some(other) = self.sessions[session].link
            && !is_assigned
        {
            self.fail(format!("link {link} and link {other} of one client are both connected"));
        }
        self.settle_session(link, connack.session_present);
        let session = self.links[link].session;
        self.sessions[session].assigned = connack.assigned_client_id.map(str::to_owned);
        let state = &mut self.links[link];
        state.phase = Phase::Live;
        state.lived = self.step;
        state.last_packet = self.now;
        if state.expiry_seconds > 0
            && !is_assigned
            && store.of_client(&self.clients[client].id).next().is_none()
        {
            self.fail(format!("link {link} is accepted before its session is committed"));
        }
        self.cover.hit("connected");
    }

    /// Why a CONNECT must be refused, if it must.
    fn expected_refusal(&self, link: LinkIx) -> Option<ReasonCode> {
        let state = &self.links[link];
        let facts = &self.clients[state.client];
        if state.refused.is_some() {
            return state.refused;
        }
        let WillFacts { content, .. } = state.will.as_ref()?;
        let (qos, retain) = (content.qos, content.retain);
        self.judge.authorize(&facts.name, AccessAction::Will, &content.topic, qos, retain).err()
    }

    fn may_refuse(&self, link: LinkIx, code: ReasonCode) -> bool {
        match code {
            ReasonCode::ServerBusy => self.has_rival(link),
            ReasonCode::QuotaExceeded => self.store_failed || self.may_lack_room(link),
            ReasonCode::ServerUnavailable => self.store_failed || self.shutting_down,
            _ => false,
        }
    }

    /// Whether there may be as many sessions as there may be; who has one needs no room.
    fn may_lack_room(&self, link: LinkIx) -> bool {
        let client = self.links[link].client;
        let has_session = self.current[client].is_some_and(|session| self.is_alive(session));
        let is_assigned = self.clients[client].id.is_empty();
        self.limits.sessions_max <= self.sessions.len() + self.links.len()
            && (is_assigned || !has_session)
    }

    /// Whether another connection of the same client may have taken this one's place.
    fn has_rival(&self, link: LinkIx) -> bool {
        let client = self.links[link].client;
        let is_rival = |(index, other): (LinkIx, &LinkState)| {
            index != link && other.client == client && other.refused.is_none()
        };
        !self.clients[client].id.is_empty() && self.links.iter().enumerate().any(is_rival)
    }

    /// Session Present is true [MQTT-3.2.2-2]; the session is the connection's from here on.
    fn settle_session(&mut self, link: LinkIx, session_present: bool) {
        let LinkState { client, clean, expiry_seconds, .. } = self.links[link];
        let found = self.current[client].filter(|_| !self.clients[client].id.is_empty());
        match (found, session_present) {
            (_, true) if clean => {
                self.fail(format!("link {link} started clean and finds a session"));
            }
            (None, true) if !self.unknown_session[client] => {
                self.fail(format!("link {link} finds a session where there is none"));
            }
            (Some(session), false) if !clean && self.is_alive(session) => {
                self.fail(format!("link {link} does not find session {session}"));
            }
            _ => {}
        }
        let session = match found {
            Some(session) if session_present => {
                self.cancel_will(session);
                self.cover.hit("session resumed");
                let may_be_new = self.unknown_session[client] && !self.is_alive(session);
                let state = &mut self.sessions[session];
                state.doubtful |= may_be_new;
                if state.doubtful {
                    // It may be another one, of a CONNECT that was never answered.
                    state.inbound.iter_mut().for_each(|it| it.arrival = Arrival::Maybe);
                    state.subscriptions.iter_mut().for_each(|it| it.doubt());
                }
                if !state.in_flight.is_empty() {
                    self.cover.hit("session resumed with messages in flight");
                }
                if state.in_flight.iter().any(|sent| sent.released) {
                    self.cover.hit("session resumed with a release");
                }
                session
            }
            _ => {
                if let Some(session) = found {
                    self.cover.hit("session replaced");
                    self.end_session(session);
                }
                // A clean start that is on its way may end it at any time.
                let ends = |other: &LinkState| {
                    other.client == client
                        && other.clean
                        && other.lived == 0
                        && (other.phase == Phase::Connecting || other.began > self.settled)
                };
                let others = self.links.iter().enumerate().filter(|(index, _)| *index != link);
                let may_end = others.map(|(_, other)| other).any(ends);
                self.begin_session(client, session_present || may_end)
            }
        };
        self.unknown_session[client] = false;
        self.current[client] = Some(session);
        let state = &mut self.sessions[session];
        state.link = Some(link);
        state.expiry_seconds = expiry_seconds;
        self.links[link].session = session;
    }

    fn begin_session(&mut self, client: ClientIx, doubtful: bool) -> SessionIx {
        self.sessions.push(SessionState {
            client,
            assigned: None,
            began: self.step,
            ended: false,
            doubtful,
            expiry_seconds: 0,
            link: None,
            lost_at: Millis(0),
            touched_at: Millis(0),
            rested: false,
            subscriptions: Vec::new(),
            inbound: Vec::new(),
            in_flight: Vec::new(),
            taken: Vec::new(),
            replays: Vec::new(),
            either: Vec::new(),
            alike: std::collections::BTreeSet::new(),
            musts: Vec::new(),
            excused: Vec::new(),
            order: std::collections::BTreeMap::new(),
            replaying: Vec::new(),
            drops: Vec::new(),
            will: None,
        });
        self.sessions.len() - 1
    }

    /// Whether a session must still be there.
    pub(super) fn is_alive(&self, session: SessionIx) -> bool {
        let state = &self.sessions[session];
        let expires_at = state.lost_at.plus_seconds(u64::from(state.expiry_seconds));
        let is_kept = state.expiry_seconds == u32::MAX || self.now < expires_at;
        !state.ended && !state.doubtful && (state.link.is_some() || is_kept)
    }

    /// A session is over, and what it should have got with it.
    pub(super) fn end_session(&mut self, session: SessionIx) {
        self.fire_will(session, true);
        let state = &mut self.sessions[session];
        state.ended = true;
        state.musts.clear();
        state.replays.clear();
        state.either.clear();
        state.in_flight.clear();
        let client = state.client;
        if self.current[client] == Some(session) {
            self.current[client] = None;
        }
    }

    /// Sessions whose time is over are gone once every worker looked at the clock.
    pub(super) fn expire_sessions(&mut self) {
        for client in 0..self.clients.len() {
            let Some(session) = self.current[client] else {
                continue;
            };
            let state = &mut self.sessions[session];
            if state.link.is_none() && !state.rested {
                // Its time may have begun only when its last publishes were through.
                state.rested = true;
                state.touched_at = self.now;
            }
            let expires_at = state.touched_at.plus_seconds(u64::from(state.expiry_seconds));
            let waits = self
                .links
                .iter()
                .any(|link| link.client == client && link.phase == Phase::Connecting);
            if state.link.is_none()
                && state.expiry_seconds != u32::MAX
                && self.now >= expires_at
                && !waits
                && !self.unknown_session[client]
            {
                self.cover.hit("session expired");
                self.end_session(session);
            }
        }
    }

    /// A worker is told, or decides, that a connection is over.
    pub(crate) fn lose(&mut self, link: LinkIx, with_will: bool) {
        let state = &mut self.links[link];
        let was = std::mem::replace(&mut state.phase, Phase::Dead);
        let client = state.client;
        match was {
            Phase::Dead => {}
            Phase::Connecting => {
                let (clean, is_refused) = (state.clean, state.refused.is_some());
                if is_refused || self.clients[client].id.is_empty() {
                    return;
                }
                let expiry_seconds = state.expiry_seconds;
                if let Some(session) = self.current[client] {
                    self.touch(session, clean);
                    if self.sessions[session].expiry_seconds != expiry_seconds {
                        self.sessions[session].doubtful = true;
                    }
                }
                self.unknown_session[client] |= expiry_seconds > 0;
            }
            Phase::Live => self.lose_live(link, with_will),
        }
    }

    fn lose_live(&mut self, link: LinkIx, with_will: bool) {
        self.disturb_groups();
        let state = &mut self.links[link];
        let session = state.session;
        let will = state.will.take().filter(|_| with_will);
        let awaiting = std::mem::take(&mut state.awaiting);
        let requests = std::mem::take(&mut state.requests);
        self.doubt_requests(session, &requests);
        let state = &mut self.sessions[session];
        for inbound in &mut state.inbound {
            inbound.arrival = match inbound.arrival {
                Arrival::Pending => Arrival::Maybe,
                other => other,
            };
        }
        if !awaiting.is_empty() {
            self.cover.hit("connection lost with publishes unacknowledged");
        }
        state.link = None;
        (state.lost_at, state.touched_at, state.rested) = (self.now, self.now, false);
        let ends = state.expiry_seconds == 0;
        if let Some(will) = will {
            self.cover.hit("will due");
            self.on_lost_will(session, will, ends);
        }
        if ends {
            self.end_session(session);
        }
    }

    /// A worker is given DISCONNECT.
    pub(super) fn on_disconnect(&mut self, link: LinkIx, code: ReasonCode, expiry: Option<u32>) {
        let LinkState { client, session, .. } = self.links[link];
        let version = self.clients[client].version;
        if let Some(seconds) = expiry {
            let state = &mut self.sessions[session];
            if state.expiry_seconds == 0 && seconds != 0 {
                self.links[link].must_close = Some(ReasonCode::ProtocolError);
                return;
            }
            state.expiry_seconds = seconds.min(self.limits.session_expiry_seconds_max);
        }
        let with_will = version == Version::V5 && code != ReasonCode::Success;
        self.lose(link, with_will); // [MQTT-3.14.4-3]
    }

    /// A worker is told that a connection sent what cannot be read.
    pub(crate) fn on_refused(&mut self, link: LinkIx, code: ReasonCode) {
        if self.is_live(link) {
            self.links[link].must_close = Some(code);
        } else {
            self.lose(link, false);
        }
    }

    /// A worker closes a connection.
    pub(crate) fn on_close(&mut self, link: LinkIx, code: Option<ReasonCode>) {
        let state = &self.links[link];
        if state.phase == Phase::Live && !self.is_close_justified(link, code) {
            self.fail(format!("link {link} is closed by {code:?} for no reason"));
        }
        if self.links[link].must_close.is_some_and(|must| Some(must) != code) {
            self.fail(format!("link {link} is closed by {code:?}, not by what it did"));
        }
        self.links[link].must_close = None;
        self.lose(link, code != Some(ReasonCode::ServerShuttingDown));
    }

    fn is_close_justified(&mut self, link: LinkIx, code: Option<ReasonCode>) -> bool {
        if code.is_some_and(|code| self.may_end_exchange(link, code)) {
            return true;
        }
        let state = &self.links[link];
        if state.must_close.is_some() && state.must_close == code {
            return true;
        }
        let refused = |attempt: &super::AttemptIx| self.is_fault(*attempt, code);
        match code {
            Some(ReasonCode::SessionTakenOver) => self.has_rival(link),
            Some(ReasonCode::ServerShuttingDown) => self.shutting_down,
            Some(ReasonCode::ReceiveMaximumExceeded) => state.exceeded,
            Some(ReasonCode::AdministrativeAction) => state.kicked,
            Some(ReasonCode::KeepAliveTimeout) => {
                let allowed = self.granted_keep_alive(state.keep_alive_seconds);
                allowed > 0 && self.now.since(state.last_packet) > u64::from(allowed) * 1500
            }
            Some(ReasonCode::QuotaExceeded | ReasonCode::UnspecifiedError) => {
                state.awaiting.first().is_some_and(refused)
                    || !state.completes_due.is_empty()
                    || state.ever_congested
                    || state.overrun.is_some()
            }
            _ => false,
        }
    }

    pub(super) fn granted_keep_alive(&self, asked: u16) -> u16 {
        match self.limits.keep_alive_seconds_max {
            0 => asked,
            most if asked == 0 => most,
            most => asked.min(most),
        }
    }

    pub(crate) fn on_congested(&mut self, link: LinkIx) {
        self.links[link].congested = self.step;
        self.links[link].ever_congested = true;
        self.cover.hit("congested");
    }

    /// Whatever it sends may not have been read: its silence begins now.
    pub(crate) fn on_heard(&mut self, link: LinkIx) {
        self.links[link].last_packet = self.now;
    }

    /// A client that is not read from is not silent.
    pub(crate) fn on_reading(&mut self, link: LinkIx, reading: bool) {
        self.on_heard(link);
        if !reading {
            self.cover.hit("reading stopped");
        }
    }

    pub(crate) fn on_kick(&mut self, client: ClientIx, worker_links: &[LinkIx]) {
        for link in worker_links {
            if self.links[*link].client == client && self.links[*link].phase == Phase::Live {
                self.links[*link].must_close = Some(ReasonCode::AdministrativeAction);
            }
            self.links[*link].kicked |= self.links[*link].client == client;
        }
    }

    /// A client's user is removed: its session ends with its connection, or now.
    pub(crate) fn on_removal(&mut self, client: ClientIx) {
        let Some(session) = self.current[client] else {
            return;
        };
        self.sessions[session].expiry_seconds = 0;
        if self.sessions[session].link.is_none() {
            let is_connecting =
                |link: &LinkState| link.client == client && link.phase == Phase::Connecting;
            if self.links.iter().any(is_connecting) {
                self.cover.hit("user removed while its session moves");
            }
            self.end_session(session);
        }
    }

    /// Every worker knows that a client's user is removed: only a CONNECT that is still on its way
    /// makes a session.
    pub(crate) fn after_removal(&mut self, client: ClientIx) {
        let is_connecting =
            |link: &LinkState| link.client == client && link.phase == Phase::Connecting;
        if !self.links.iter().any(is_connecting) {
            self.unknown_session[client] = false;
        }
    }

    /// A Packet Identifier that a client may use anew.
    pub(super) fn forget_exchange(&mut self, link: LinkIx, packet_id: PacketId) {
        self.links[link].exchanges.retain(|id| *id != packet_id);
    }
}
