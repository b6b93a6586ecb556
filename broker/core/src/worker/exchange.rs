//! Enhanced authentication: AUTH packets before CONNACK, and again while connected [MQTT 5.0, 4.12].
//! What must not live here: what a method asks of a client.

use std::sync::Arc;

use crate::action::{Observation, Proof, Reply, Shell};
use crate::event::{Authentication, Packet};
use crate::hook::{Denial, ExchangeAnswer, ExchangeRequest, HookReply, Kept, Principal};
use crate::ids::ConnSlot;
use crate::limits::{AUTH_OVERHEAD_BYTES, CONNACK_OVERHEAD_BYTES, EXCHANGE_STEPS_MAX};
use crate::reason::ReasonCode;
use crate::time::Millis;

use super::access::After;
use super::{Parked, ParkedFor, Phase, Worker};

/// The exchange of a connection that authenticates by AUTH packets.
#[derive(Debug)]
pub(super) struct Exchange {
    /// As CONNECT named it; no other one later [MQTT-4.12.1-1].
    pub(super) method: Arc<str>,
    turn: Turn,
    /// Challenges that the client has answered.
    step: u16,
    /// What whoever asked wants to see again with the answer.
    kept: Option<Kept>,
    /// When the client's last answer has to be there.
    until: Millis,
    /// Authentication Data for CONNACK.
    pub(super) last_data: Option<Box<[u8]>>,
}

/// Whose word it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Client,
    Hook,
    /// Nobody's: the exchange is over.
    Over,
}

impl Exchange {
    /// Whether the client has not answered in time.
    pub(super) fn is_late(&self, now: Millis) -> bool {
        self.turn == Turn::Client && now >= self.until
    }
}

impl<S: Shell> Worker<S> {
    /// CONNECT names a method: the exchange decides, and nothing else is asked.
    pub(super) fn begin_exchange(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        authentication: Authentication,
        shell: &mut S,
    ) {
        let Authentication { method, data } = authentication;
        let until = now.plus_seconds(u64::from(self.limits.exchange_timeout_seconds));
        if let Some(conn) = self.conns.get_mut(slot) {
            let (method, turn) = (method.into(), Turn::Hook);
            let exchange = Exchange { method, turn, step: 0, kept: None, until, last_data: None };
            conn.exchange = Some(Box::new(exchange));
        }
        self.ask_exchange(now, slot, data, shell);
    }

    fn ask_exchange(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        data: Option<Box<[u8]>>,
        shell: &mut S,
    ) {
        let token = self.token();
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let Some(exchange) = &mut conn.exchange else {
            return;
        };
        exchange.turn = Turn::Hook;
        let request = ExchangeRequest {
            connection: Arc::clone(&conn.facts),
            principal: (conn.phase == Phase::Live).then(|| Arc::clone(&conn.principal)),
            method: Arc::clone(&exchange.method),
            data,
            step: exchange.step,
            kept: exchange.kept.take(),
        };
        match shell.auth_exchange(token, request) {
            HookReply::Now(answer) => self.handle_exchanged(now, slot, answer, shell),
            HookReply::Parked => {
                let what = ParkedFor::Exchange;
                self.parked.insert(token, Parked { conn: slot, what });
            }
        }
    }

    /// A packet before CONNACK: only AUTH and DISCONNECT may come, and only when the client was
    /// asked [MQTT-3.1.2-30]. Without an exchange nothing is read then.
    pub(super) fn handle_early_packet(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet: Packet<'_>,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if conn.phase != Phase::Authenticating {
            return;
        }
        match packet {
            Packet::Auth { code, authentication } => {
                if let Some(link) = &conn.link {
                    // Whatever comes behind it waits until this is decided.
                    shell.set_reading(link, false);
                }
                self.handle_auth(now, slot, code, authentication, shell);
            }
            Packet::Disconnect { .. } => self.close_connection(now, slot, None, false, shell),
            Packet::Publish(_)
            | Packet::PubAck { .. }
            | Packet::PubRec { .. }
            | Packet::PubRel { .. }
            | Packet::PubComp { .. }
            | Packet::Subscribe { .. }
            | Packet::Unsubscribe { .. }
            | Packet::PingReq => {
                let denial = Denial::new(ReasonCode::ProtocolError);
                self.refuse_connect(now, slot, &denial, shell);
            }
        }
    }

    /// AUTH: the answer to a challenge, or a connected client wants to authenticate again.
    pub(super) fn handle_auth(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        code: ReasonCode,
        authentication: Authentication,
        shell: &mut S,
    ) {
        let Authentication { method, data } = authentication;
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let Some(exchange) = &mut conn.exchange else {
            // CONNECT named no method [MQTT-4.12.0-7].
            let denial = Denial::new(ReasonCode::ProtocolError);
            return self.fail_connection(now, slot, &denial, shell);
        };
        let is_expected = match exchange.turn {
            Turn::Client => code == ReasonCode::ContinueAuthentication, // [MQTT-4.12.0-3]
            Turn::Over => code == ReasonCode::ReAuthenticate,
            Turn::Hook => false,
        };
        let problem = if !is_expected {
            Some(ReasonCode::ProtocolError)
        } else if *exchange.method != *method {
            Some(ReasonCode::BadAuthenticationMethod) // [MQTT-4.12.1-1]
        } else {
            None
        };
        if let Some(code) = problem {
            return self.fail_connection(now, slot, &Denial::new(code), shell);
        }
        if exchange.turn == Turn::Over {
            exchange.step = 0;
            exchange.until = now.plus_seconds(u64::from(self.limits.exchange_timeout_seconds));
        } else {
            exchange.step += 1;
        }
        self.ask_exchange(now, slot, data, shell);
    }

    /// A step of an exchange was decided.
    pub(super) fn handle_exchanged(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        answer: ExchangeAnswer,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        match (answer, conn.phase) {
            (_, Phase::Waiting | Phase::Closing) => {}
            (ExchangeAnswer::Continue { data, kept }, _) => {
                self.challenge(now, slot, &data, kept, shell);
            }
            (ExchangeAnswer::Allow(principal, data), Phase::Authenticating) => {
                self.let_in(now, slot, principal, data, shell);
            }
            (ExchangeAnswer::Allow(principal, data), Phase::Live) => {
                self.let_stay(now, slot, principal, data.as_deref(), shell);
            }
            (ExchangeAnswer::Deny(denial), _) => {
                self.fail_connection(now, slot, &denial, shell); // [MQTT-4.12.0-4] [MQTT-4.12.1-2]
            }
        }
    }

    /// Asks the client to go on [MQTT-4.12.0-2].
    fn challenge(&mut self, now: Millis, slot: ConnSlot, data: &[u8], kept: Kept, shell: &mut S) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let (Some(exchange), Some(link)) = (&mut conn.exchange, &conn.link) else {
            return;
        };
        let bytes = AUTH_OVERHEAD_BYTES + exchange.method.len() + data.len();
        let problem = if exchange.step >= EXCHANGE_STEPS_MAX || now >= exchange.until {
            Some(ReasonCode::NotAuthorized)
        } else if shell.takes(link, bytes) {
            None
        } else {
            Some(ReasonCode::PacketTooLarge) // [MQTT-3.1.2-24]
        };
        if let Some(code) = problem {
            return self.fail_connection(now, slot, &Denial::new(code), shell);
        }
        exchange.turn = Turn::Client;
        exchange.kept = Some(kept);
        let proof = Proof { method: &exchange.method, data: Some(data) };
        shell.send(link, Reply::Auth(ReasonCode::ContinueAuthentication, proof));
        if conn.phase == Phase::Authenticating {
            shell.set_reading(link, true);
        }
    }

    /// The exchange of a CONNECT is over; what it allows goes on as any other CONNECT.
    fn let_in(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        principal: Arc<Principal>,
        data: Option<Box<[u8]>>,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let (Some(exchange), Some(link)) = (&mut conn.exchange, &conn.link) else {
            return;
        };
        exchange.turn = Turn::Over;
        let bytes = CONNACK_OVERHEAD_BYTES
            + conn.facts.client_id.len()
            + exchange.method.len()
            + data.as_ref().map_or(0, |data| data.len());
        if !shell.takes(link, bytes) {
            let denial = Denial::new(ReasonCode::PacketTooLarge);
            return self.refuse_connect(now, slot, &denial, shell);
        }
        exchange.last_data = data;
        conn.principal = principal;
        self.authorize_will(now, slot, After::Start, shell);
    }

    /// A connected client has shown again who it is: what it may do is decided anew from here on.
    fn let_stay(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        principal: Arc<Principal>,
        data: Option<&[u8]>,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let (Some(exchange), Some(link)) = (&mut conn.exchange, &conn.link) else {
            return;
        };
        exchange.turn = Turn::Over;
        let bytes = AUTH_OVERHEAD_BYTES + exchange.method.len() + data.map_or(0, <[u8]>::len);
        let problem = if conn.principal.name != principal.name {
            Some(ReasonCode::NotAuthorized) // its session belongs to who it was
        } else if shell.takes(link, bytes) {
            None
        } else {
            Some(ReasonCode::PacketTooLarge)
        };
        if let Some(code) = problem {
            return self.fail_connection(now, slot, &Denial::new(code), shell);
        }
        let proof = Proof { method: &exchange.method, data };
        shell.send(link, Reply::Auth(ReasonCode::Success, proof));
        let has_other_roles = conn.principal.roles != principal.roles;
        conn.principal = principal;
        conn.decisions.forget();
        let (id, facts, principal) = (conn.id, &conn.facts, &conn.principal);
        shell.observe(Observation::Reauthenticated { id, facts, principal });
        let place = conn.session;
        if has_other_roles {
            self.revoke(place, slot);
        }
    }
}
