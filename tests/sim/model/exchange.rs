//! Exchanges of AUTH packets: whose turn it is, and what must come of it [MQTT 5.0, 4.12].
//! What must not live here: what a connected client may do.

use wasmqtt_core::action::{ConnAck, Proof};
use wasmqtt_core::hook::{Denial, ExchangeAnswer, ExchangeRequest, Kept, Principal};
use wasmqtt_core::limits::EXCHANGE_STEPS_MAX;
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::time::Millis;

use super::{Model, Phase};
use crate::packet::{FromClient, METHOD, Plan, Shown};
use crate::shell::LinkIx;

/// An exchange that runs.
#[derive(Debug)]
pub(crate) struct Exchange {
    plan: Plan,
    began: Millis,
    /// Challenges that the client was sent, and answers that its worker was given.
    sent: u16,
    given: u16,
    /// The client did what it must not.
    ended_by: Option<ReasonCode>,
}

impl Exchange {
    pub(super) const fn new(plan: Plan, began: Millis) -> Self {
        Self { plan, began, sent: 0, given: 0, ended_by: None }
    }

    const fn is_clients_turn(&self) -> bool {
        self.sent > self.given
    }

    const fn is_answered(&self) -> bool {
        self.given == self.plan.challenges && self.sent == self.given
    }
}

impl Model {
    /// What the plugin answers to a step; checks that the worker asks what it should.
    pub(crate) fn step_of_exchange(
        &mut self,
        link: LinkIx,
        request: &ExchangeRequest,
    ) -> ExchangeAnswer {
        let nonsense = ExchangeAnswer::Deny(Denial::new(ReasonCode::UnspecifiedError));
        let state = &self.links[link];
        let Some(exchange) = &state.exchange else {
            self.fail(format!("link {link} has no exchange: {request:?}"));
            return nonsense;
        };
        let plan = exchange.plan;
        let expected = if exchange.given == 0 {
            None
        } else {
            let state = format!("{link} {} {plan:?}", exchange.given).into_bytes();
            Some(Kept { asked_by: 7, state: state.into() })
        };
        let is_right = request.step == exchange.given
            && request.kept == expected
            && request.principal.is_some() == (state.phase == Phase::Live)
            && &*request.method == METHOD;
        if !is_right {
            self.fail(format!("link {link}: {request:?}, expected {expected:?} of {exchange:?}"));
        }
        if request.step == 0 && request.data.as_deref().map(Plan::of) != Some(plan) {
            self.fail(format!("link {link}: {request:?} does not bring the plan {plan:?}"));
        }
        if request.step < plan.challenges {
            let state = format!("{link} {} {plan:?}", request.step + 1).into_bytes();
            let (asked_by, state) = (7, state.into());
            return ExchangeAnswer::Continue {
                data: (*b"challenge").into(),
                kept: Kept { asked_by, state },
            };
        }
        let name = match plan.verdict {
            Shown::Refused(code) => return ExchangeAnswer::Deny(Denial::new(code)),
            Shown::Itself => (*request.connection.peer).into(),
            Shown::SomebodyElse => "somebody else".into(),
        };
        let principal = Principal { name: Some(name), ..Principal::default() };
        ExchangeAnswer::Allow(principal.into(), Some((*b"proof").into()))
    }

    /// A worker sends AUTH.
    pub(crate) fn on_auth(&mut self, link: LinkIx, code: ReasonCode, proof: Proof<'_>) {
        let state = &mut self.links[link];
        let is_live = state.phase == Phase::Live;
        let (Some(exchange), true) = (&mut state.exchange, proof.method == METHOD) else {
            return self.fail(format!("link {link}: AUTH {code:?} {proof:?} without an exchange"));
        };
        let is_right = match code {
            ReasonCode::ContinueAuthentication => {
                exchange.sent += 1;
                exchange.sent == exchange.given + 1
                    && exchange.sent <= exchange.plan.challenges.min(EXCHANGE_STEPS_MAX)
                    && proof.data == Some(b"challenge")
            }
            ReasonCode::Success => {
                is_live
                    && exchange.is_answered()
                    && exchange.plan.verdict == Shown::Itself
                    && proof.data == Some(b"proof")
            }
            _ => false,
        };
        if !is_right {
            let exchange = format!("{exchange:?}");
            return self.fail(format!("link {link}: AUTH {code:?} {proof:?} in {exchange}"));
        }
        if code == ReasonCode::Success {
            self.cover.hit("re-authenticated");
            self.links[link].exchange = None;
        }
    }

    /// A worker is given a packet of a client that is not connected.
    pub(super) fn on_early_packet(&mut self, link: LinkIx, packet: &FromClient) {
        let state = &mut self.links[link];
        if state.phase != Phase::Connecting {
            return;
        }
        let (client, clean) = (state.client, state.clean);
        let Some(exchange) = state.exchange.as_mut().filter(|it| it.is_clients_turn()) else {
            return self.fail(format!("link {link} is read from before it is connected"));
        };
        match packet {
            FromClient::Auth { code: ReasonCode::ContinueAuthentication, method, .. } => {
                if *method != METHOD {
                    exchange.ended_by = Some(ReasonCode::BadAuthenticationMethod);
                    return;
                }
                exchange.given += 1;
                if let Some(session) = self.current[client] {
                    self.touch(session, clean); // it may come through from here on, too
                }
            }
            FromClient::Disconnect { .. } => self.lose(link, false),
            _ => exchange.ended_by = Some(ReasonCode::ProtocolError), // [MQTT-3.1.2-30]
        }
    }

    /// A worker is given AUTH of a connected client.
    pub(super) fn on_client_auth(
        &mut self,
        link: LinkIx,
        code: ReasonCode,
        method: &str,
        plan: Plan,
    ) {
        let state = &mut self.links[link];
        let is_expected = match &state.exchange {
            Some(running) => {
                running.is_clients_turn() && code == ReasonCode::ContinueAuthentication
            }
            None => state.has_method && code == ReasonCode::ReAuthenticate,
        };
        if !is_expected {
            state.must_close = Some(ReasonCode::ProtocolError); // [MQTT-4.12.0-7]
        } else if method != METHOD {
            state.must_close = Some(ReasonCode::BadAuthenticationMethod); // [MQTT-4.12.1-1]
        } else if let Some(exchange) = &mut state.exchange {
            exchange.given += 1;
        } else {
            state.exchange = Some(Exchange::new(plan, self.now));
        }
    }

    /// Whether an exchange may end a connection with that code.
    pub(super) fn may_end_exchange(&mut self, link: LinkIx, code: ReasonCode) -> bool {
        let state = &self.links[link];
        let Some(exchange) = &state.exchange else {
            return false;
        };
        let is_live = state.phase == Phase::Live;
        let timeout = u64::from(self.limits.exchange_timeout_seconds) * 1000;
        if exchange.ended_by.is_some() {
            self.cover.hit("exchange refused for what its client sent");
            return self.links[link].exchange.as_ref().and_then(|it| it.ended_by) == Some(code);
        }
        if code == ReasonCode::NotAuthorized && self.now.since(exchange.began) >= timeout {
            self.cover.hit("exchange ended by its time");
            return true;
        }
        if exchange.given == EXCHANGE_STEPS_MAX && exchange.plan.challenges > EXCHANGE_STEPS_MAX {
            self.cover.hit("exchange ended by too many steps");
            return code == ReasonCode::NotAuthorized;
        }
        if !exchange.is_answered() || !is_live {
            return false;
        }
        match exchange.plan.verdict {
            Shown::Itself => false,
            Shown::SomebodyElse => {
                self.cover.hit("re-authentication as somebody else");
                code == ReasonCode::NotAuthorized
            }
            Shown::Refused(why) => {
                self.cover.hit("re-authentication refused");
                code == why.in_disconnect()
            }
        }
    }

    /// CONNACK accepts: the exchange has said so, and its last word goes along [MQTT-4.12.0-5].
    pub(super) fn end_exchange_by_connack(&mut self, link: LinkIx, connack: &ConnAck<'_>) {
        let state = &mut self.links[link];
        let proof = Proof { method: METHOD, data: Some(b"proof") };
        let is_right = match state.exchange.take() {
            Some(exchange) => {
                exchange.is_answered()
                    && exchange.ended_by.is_none()
                    && exchange.plan.verdict == Shown::Itself
                    && connack.proof == Some(proof)
            }
            None => connack.proof.is_none(),
        };
        if !is_right {
            return self.fail(format!("link {link} is accepted by {connack:?} without its proof"));
        }
        if self.links[link].has_method {
            self.cover.hit("connected by an exchange");
        }
    }

    /// Whether a worker should have refused a CONNECT at once.
    pub(super) fn must_have_ended_exchange(&self, link: LinkIx) -> bool {
        let state = &self.links[link];
        state.phase == Phase::Connecting
            && state.exchange.as_ref().is_some_and(|exchange| exchange.ended_by.is_some())
    }

    /// Nothing is on its way: only the client is waited for, and not for too long.
    pub(super) fn settle_exchange(&mut self, link: LinkIx) {
        let state = &self.links[link];
        let Some(exchange) = state.exchange.as_ref().filter(|_| state.phase != Phase::Dead) else {
            return;
        };
        let timeout = u64::from(self.limits.exchange_timeout_seconds) * 1000;
        if !exchange.is_clients_turn() {
            self.fail(format!("link {link}: a step of its exchange is never answered"));
        } else if self.now.since(exchange.began) >= timeout {
            self.fail(format!("link {link} is waited for longer than {timeout} ms"));
        }
    }
}
