//! Subscriptions: from when to when each may hold, and surely holds [MQTT 3.8, 3.10].
//! What must not live here: retained messages, and what is delivered.

use wasmqtt_core::event::SubscribeFilter;
use wasmqtt_core::hook::AccessAction;
use wasmqtt_core::ids::PacketId;
use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::store::SubscriptionOptions;

use super::{Model, SessionIx, Step};
use crate::shell::LinkIx;
use crate::store::Store;

/// One subscription of a session, or what it was before it was replaced.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    pub(super) filter: String,
    pub(super) options: SubscriptionOptions,
    retain_handling: u8,
    /// SUBSCRIBE was handed over.
    from: Step,
    /// SUBACK was sent.
    sure_from: Option<Step>,
    /// UNSUBSCRIBE, or what replaces it, was handed over.
    until: Option<Step>,
    /// UNSUBACK, or the SUBACK of what replaces it, was sent.
    gone: Option<Step>,
}

impl Subscription {
    /// Whether it may have held at some time between.
    pub(super) fn is_possible(&self, from: Step, to: Step) -> bool {
        self.from <= to && self.gone.is_none_or(|gone| gone >= from)
    }

    /// Whether it held all the time.
    pub(super) fn is_sure(&self, from: Step, to: Step) -> bool {
        self.sure_from.is_some_and(|sure| sure < from) && self.until.is_none_or(|until| until > to)
    }

    /// Whether it came up while something passed, and calls for what is retained.
    pub(super) fn came_up(&self, from: Step, to: Step) -> bool {
        self.holds()
            && self.retain_handling == 0
            && self.from <= to
            && self.sure_from.is_some_and(|sure| sure >= from)
    }

    /// It may hold or not from here on.
    pub(super) const fn doubt(&mut self) {
        self.sure_from = None;
    }

    /// Whether it holds now, and nothing is changing it.
    fn holds(&self) -> bool {
        self.sure_from.is_some() && self.until.is_none()
    }
}

/// A SUBSCRIBE or UNSUBSCRIBE that was handed over and not yet answered.
#[derive(Debug)]
pub(crate) struct Request {
    packet_id: PacketId,
    handed: Step,
    is_subscribe: bool,
    filters: Vec<Wanted>,
}

/// One filter of it.
#[derive(Clone, Debug)]
struct Wanted {
    filter: String,
    options: SubscriptionOptions,
    retain_handling: u8,
    /// Whether the filter was surely subscribed, and surely not, when it was handed over.
    was_there: bool,
    was_not: bool,
    /// What must refuse it.
    refused: Option<ReasonCode>,
}

impl Wanted {
    /// Whether it may call for retained messages [MQTT 3.8.3.1].
    const fn with_retained(&self) -> bool {
        match self.retain_handling {
            0 => true,
            1 => !self.was_there,
            _ => false,
        }
    }
}

impl Model {
    /// A worker is given SUBSCRIBE.
    pub(super) fn on_subscribe(
        &mut self,
        link: LinkIx,
        packet_id: PacketId,
        identifier: u32,
        filters: &[SubscribeFilter],
    ) {
        let session = self.links[link].session;
        let mut wanted = Vec::new();
        for asked in filters {
            let filter = asked.filter.to_string();
            let refused = self.refused_filter(link, &filter, asked.qos);
            let options = SubscriptionOptions {
                qos: asked.qos,
                no_local: asked.no_local,
                retain_as_published: asked.retain_as_published,
                identifier,
            };
            let step = self.step;
            if refused.is_none() {
                self.doubt_replays_by(session, &filter);
            }
            let mut was_there = false;
            let mut was_not = true;
            let state = &mut self.sessions[session];
            let same = state.subscriptions.iter_mut().filter(|it| it.filter == filter);
            for earlier in same.filter(|it| it.gone.is_none()) {
                was_there |= earlier.holds() || earlier.from == step;
                was_not = false;
                if refused.is_none() {
                    earlier.until.get_or_insert(step);
                }
            }
            if refused.is_none() {
                state.subscriptions.push(Subscription {
                    filter: filter.clone(),
                    options,
                    retain_handling: asked.retain_handling,
                    from: step,
                    sure_from: None,
                    until: None,
                    gone: None,
                });
            }
            let retain_handling = asked.retain_handling;
            wanted.push(Wanted { filter, options, retain_handling, was_there, was_not, refused });
        }
        let handed = self.step;
        self.links[link].requests.push(Request {
            packet_id,
            handed,
            is_subscribe: true,
            filters: wanted,
        });
    }

    fn refused_filter(&self, link: LinkIx, filter: &str, qos: QoS) -> Option<ReasonCode> {
        let levels: Vec<&str> = filter.split('/').collect();
        let is_misplaced = |(index, level): (usize, &&str)| {
            level.len() > 1 && level.contains(['#', '+'])
                || *level == "#" && index + 1 < levels.len()
        };
        if filter.is_empty()
            || super::groups::is_malformed(filter)
            || levels.iter().enumerate().any(is_misplaced)
        {
            return Some(ReasonCode::TopicFilterInvalid);
        }
        let name = &self.clients[self.links[link].client].name;
        self.judge.authorize(name, AccessAction::Subscribe, filter, qos, false).err()
    }

    fn answered(&mut self, link: LinkIx, packet_id: PacketId, codes: usize) -> Option<Request> {
        let requests = &mut self.links[link].requests;
        let at = requests.iter().position(|request| request.packet_id == packet_id);
        let Some(request) = at.map(|at| requests.remove(at)) else {
            self.fail(format!("link {link}: an answer to {packet_id} without a question"));
            return None;
        };
        if request.filters.len() != codes {
            self.fail(format!("link {link}: {codes} codes for {request:?}"));
            return None;
        }
        Some(request)
    }

    /// A worker sends SUBACK.
    pub(crate) fn on_suback(
        &mut self,
        link: LinkIx,
        packet_id: PacketId,
        codes: &[ReasonCode],
        store: &Store,
    ) {
        let Some(request) = self.answered(link, packet_id, codes.len()) else {
            return;
        };
        let session = self.links[link].session;
        for (wanted, code) in request.filters.iter().zip(codes) {
            if let Some(expected) = wanted.refused {
                if *code != expected {
                    self.fail(format!("SUBACK {code:?}, not {expected:?}, for {wanted:?}"));
                }
                continue;
            }
            if code.is_error() {
                self.on_subscribe_failed(session, &request, wanted, *code);
                continue;
            }
            if *code as u8 != wanted.options.qos as u8 {
                self.fail(format!("SUBACK {code:?} for {wanted:?}"));
            }
            self.check_subscription_kept(session, request.handed, wanted, store);
            self.begin_subscription(session, &request, wanted);
        }
        let granted = request.filters.iter().zip(codes).filter(|(_, code)| !code.is_error());
        let (asking, others): (Vec<&Wanted>, Vec<&Wanted>) =
            granted.map(|(wanted, _)| wanted).partition(|wanted| wanted.with_retained());
        for wanted in others {
            self.doubt_replays_by(session, &wanted.filter);
            self.change_replay(session, &wanted.filter, wanted.options);
        }
        for wanted in &asking {
            self.doubt_replays_by(session, &wanted.filter);
            if wanted.retain_handling > 0 && !wanted.was_not {
                self.change_replay(session, &wanted.filter, wanted.options); // or begins anew
            }
        }
        // A filter that a packet names twice is answered twice [MQTT-3.8.4-5].
        for wanted in asking {
            let is_sure = wanted.retain_handling == 0 || wanted.was_not;
            let (filter, options) = (&wanted.filter, wanted.options);
            self.expect_replays(session, filter, options, request.handed, is_sure);
        }
    }

    /// A connection is lost with subscriptions unanswered: they may hold, and their retained
    /// messages may come.
    pub(super) fn doubt_requests(&mut self, session: SessionIx, requests: &[Request]) {
        for request in requests.iter().filter(|request| request.is_subscribe) {
            for wanted in request.filters.iter().filter(|wanted| wanted.refused.is_none()) {
                let (filter, options) = (&wanted.filter, wanted.options);
                self.doubt_replays_by(session, filter);
                self.change_replay(session, filter, options);
                self.expect_replays(session, filter, options, request.handed, false);
            }
        }
    }

    fn begin_subscription(&mut self, session: SessionIx, request: &Request, wanted: &Wanted) {
        let step = self.step;
        let same =
            self.sessions[session].subscriptions.iter_mut().filter(|it| it.filter == wanted.filter);
        for it in same {
            if it.from < request.handed {
                it.gone.get_or_insert(step);
            } else if it.from == request.handed && it.options == wanted.options {
                it.sure_from = Some(step);
            }
        }
        let held = self.sessions[session].subscriptions.iter().filter(|it| it.holds()).count();
        if held > self.limits.subscriptions_max {
            self.fail(format!("session {session} has {held} subscriptions"));
        }
        self.cover.hit("subscribed");
    }

    /// Nothing of a subscription that could not be stored holds; what was there before does.
    fn on_subscribe_failed(
        &mut self,
        session: SessionIx,
        request: &Request,
        wanted: &Wanted,
        code: ReasonCode,
    ) {
        let is_full = code == ReasonCode::QuotaExceeded && self.limits.subscriptions_max < 100;
        let is_fault = matches!(code, ReasonCode::QuotaExceeded | ReasonCode::UnspecifiedError);
        if !(is_full || is_fault && self.store_failed) {
            self.fail(format!("SUBACK {code:?} for {wanted:?}"));
        }
        self.cover.hit("subscription not stored");
        let step = self.step;
        let same =
            self.sessions[session].subscriptions.iter_mut().filter(|it| it.filter == wanted.filter);
        let (mut before, mut until) = (None, None);
        for it in same {
            if it.from == request.handed {
                it.gone = Some(step);
                until = it.until;
            } else if it.from < request.handed
                && it.gone.is_none()
                && it.until == Some(request.handed)
            {
                it.gone = Some(step);
                before = Some(it.clone());
            }
        }
        if let Some(before) = before {
            let sure_from = before.sure_from.map(|_| step);
            let again = Subscription { sure_from, until, gone: None, ..before };
            self.sessions[session].subscriptions.push(again);
        }
    }

    fn check_subscription_kept(
        &mut self,
        session: SessionIx,
        handed: Step,
        wanted: &Wanted,
        store: &Store,
    ) {
        let state = &self.sessions[session];
        let client_id = &self.clients[state.client].id;
        let same = state.subscriptions.iter().filter(|it| it.filter == wanted.filter);
        let is_changing = same.filter(|it| it.from == handed).any(|it| it.until.is_some());
        if state.expiry_seconds > 0
            && !client_id.is_empty()
            && !is_changing
            && !store.of_client(client_id).any(|kept| kept.filters.contains_key(&wanted.filter))
        {
            self.fail(format!("SUBACK for {} before it is committed", wanted.filter));
        }
    }

    /// A worker is given UNSUBSCRIBE.
    pub(super) fn on_unsubscribe(
        &mut self,
        link: LinkIx,
        packet_id: PacketId,
        filters: &[Box<str>],
    ) {
        let session = self.links[link].session;
        let mut wanted = Vec::new();
        for filter in filters {
            if filter.starts_with("$share/") {
                self.disturb_groups();
            }
            let step = self.step;
            self.doubt_replays_by(session, filter);
            let (mut was_there, mut was_not) = (false, true);
            let same = self.sessions[session]
                .subscriptions
                .iter_mut()
                .filter(|it| *it.filter == **filter && it.gone.is_none());
            for it in same {
                was_there |= it.holds();
                was_not = false;
                it.until.get_or_insert(step);
            }
            wanted.push(Wanted {
                filter: filter.to_string(),
                options: SubscriptionOptions::default(),
                retain_handling: 0,
                was_there,
                was_not,
                refused: None,
            });
        }
        let handed = self.step;
        self.links[link].requests.push(Request {
            packet_id,
            handed,
            is_subscribe: false,
            filters: wanted,
        });
    }

    /// A worker sends UNSUBACK.
    pub(crate) fn on_unsuback(
        &mut self,
        link: LinkIx,
        packet_id: PacketId,
        codes: &[ReasonCode],
        store: &Store,
    ) {
        let Some(request) = self.answered(link, packet_id, codes.len()) else {
            return;
        };
        let session = self.links[link].session;
        for (wanted, code) in request.filters.iter().zip(codes) {
            let is_right = match code {
                ReasonCode::Success => !wanted.was_not,
                ReasonCode::NoSubscriptionExisted => !wanted.was_there,
                ReasonCode::UnspecifiedError => {
                    // It may hold or not: the client has to ask again.
                    self.store_failed
                }
                _ => false,
            };
            if !is_right {
                self.fail(format!("UNSUBACK {code:?} for {wanted:?}"));
            }
            if code.is_error() {
                continue;
            }
            self.cover.hit("unsubscribed");
            self.doubt_replays_by(session, &wanted.filter);
            let step = self.step;
            let same = self.sessions[session]
                .subscriptions
                .iter_mut()
                .filter(|it| it.filter == wanted.filter && it.from < request.handed);
            for it in same {
                it.gone.get_or_insert(step);
            }
            self.check_unsubscribed_kept(session, wanted, store);
        }
    }

    /// What a client is told to be gone does not come back with a restart.
    fn check_unsubscribed_kept(&mut self, session: SessionIx, wanted: &Wanted, store: &Store) {
        let state = &self.sessions[session];
        let client_id = &self.clients[state.client].id;
        let is_changing =
            state.subscriptions.iter().any(|it| it.filter == wanted.filter && it.gone.is_none());
        // A session whose end is not stored yet is there beside the new one.
        if state.expiry_seconds > 0
            && !client_id.is_empty()
            && !is_changing
            && !self.store_failed
            && store.of_client(client_id).count() == 1
            && store.of_client(client_id).any(|kept| kept.filters.contains_key(&wanted.filter))
        {
            self.fail(format!("UNSUBACK for {} before it is committed", wanted.filter));
        }
    }

    /// How many subscriptions there are, if that is sure.
    pub(super) fn subscriptions_held(&self) -> Option<usize> {
        let mut held = 0;
        for session in self.living() {
            let state = &self.sessions[session];
            if !self.is_alive(session) {
                return None;
            }
            for it in state.subscriptions.iter().filter(|it| it.gone.is_none()) {
                if !it.holds() {
                    return None;
                }
                held += 1;
            }
        }
        Some(held)
    }
}
