//! SUBSCRIBE and UNSUBSCRIBE: filters, access, retained messages [MQTT 3.8, 3.10].
//! What must not live here: matching.

use std::borrow::Cow;
use std::sync::Arc;

use crate::action::{Reply, Shell};
use crate::event::SubscribeFilter;
use crate::hook::AuthorizeAnswer;
use crate::ids::{ConnSlot, PacketId, SessionSlot};
use crate::limits::SUBSCRIBE_FILTERS_MAX as FILTERS_MAX;
use crate::message::QoS;
use crate::reason::ReasonCode;
use crate::router::Subscriber;
use crate::store::{Op, StoreFault, SubscriptionOptions};
use crate::time::Millis;
use crate::topic::TopicFilter;

use super::access::{Access, After, Object};
use super::commit::{self, fault_code};
use super::{FastMap, TopicSettings, Worker};

/// A SUBSCRIBE or UNSUBSCRIBE that is being worked on; they are answered in order.
#[derive(Debug)]
pub(super) enum Request {
    /// Without a Packet Identifier: the operator's wish, that nobody waits for.
    Subscribe {
        packet_id: Option<PacketId>,
        identifier: u32,
        filters: Vec<Wanted>,
        next: usize,
    },
    Unsubscribe {
        packet_id: PacketId,
        filters: Vec<Box<str>>,
    },
}

/// One filter of a SUBSCRIBE.
#[derive(Debug)]
pub(super) struct Wanted {
    filter: Result<TopicFilter, ReasonCode>,
    asked: SubscribeFilter,
}

/// A SUBSCRIBE that was carried out, until it is durable.
#[derive(Debug)]
pub(super) struct Subscribed {
    conn: ConnSlot,
    session: SessionSlot,
    packet_id: Option<PacketId>,
    codes: Vec<ReasonCode>,
    made: Vec<(TopicFilter, SubscriptionOptions)>,
    /// Those that call for retained messages.
    asked: Vec<(TopicFilter, SubscriptionOptions)>,
}

/// An UNSUBSCRIBE that was carried out, until it is durable.
#[derive(Debug)]
pub(super) struct Unsubscribed {
    conn: ConnSlot,
    session: SessionSlot,
    packet_id: PacketId,
    codes: Vec<ReasonCode>,
    gone: Vec<TopicFilter>,
}

/// A filter of a session with changes that are not committed.
#[derive(Debug)]
pub(super) struct Change {
    /// What holds if none of them is: no subscription, or one with these options.
    committed: Option<SubscriptionOptions>,
    /// Batches that have yet to be answered.
    open: usize,
    /// So many of them, the first ones, were asked for by who may no longer have what they bring.
    void: usize,
}

impl Change {
    /// The subscription is taken away: what is on its way to the store does not bring it back.
    pub(super) fn revoke(&mut self) {
        (self.committed, self.void) = (None, self.open);
    }
}

impl<S: Shell> Worker<S> {
    pub(super) fn handle_subscribe(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: PacketId,
        identifier: u32,
        filters: Vec<SubscribeFilter>,
        shell: &mut S,
    ) {
        let named = |asked: &SubscribeFilter| parse(&renamed(&self.topics, &asked.filter));
        let filters = filters.into_iter().map(|asked| Wanted { filter: named(&asked), asked });
        let mut filters: Vec<Wanted> = filters.collect();
        for wanted in filters.iter_mut().skip(FILTERS_MAX) {
            wanted.filter = Err(ReasonCode::QuotaExceeded);
        }
        let packet_id = Some(packet_id);
        let request = Request::Subscribe { packet_id, identifier, filters, next: 0 };
        self.enqueue_request(now, slot, request, shell);
    }

    /// Subscribes for a client that did not ask for it.
    pub(super) fn subscribe_unasked(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        filters: Vec<SubscribeFilter>,
        shell: &mut S,
    ) {
        let filters =
            filters.into_iter().map(|asked| Wanted { filter: parse(&asked.filter), asked });
        let filters = filters.collect();
        let request = Request::Subscribe { packet_id: None, identifier: 0, filters, next: 0 };
        self.enqueue_request(now, slot, request, shell);
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: PacketId,
        filters: Vec<Box<str>>,
        shell: &mut S,
    ) {
        let request = Request::Unsubscribe { packet_id, filters };
        self.enqueue_request(now, slot, request, shell);
    }

    fn enqueue_request(&mut self, now: Millis, slot: ConnSlot, request: Request, shell: &mut S) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.requests.push_back(request);
        if conn.requests.len() == 1 {
            return self.advance_requests(now, slot, None, shell);
        }
        if conn.requests.len() >= self.limits.subscribes_pending_max && conn.reading {
            conn.reading = false;
            if let Some(link) = &conn.link {
                shell.set_reading(link, false);
            }
        }
    }

    /// Works on a connection's requests in order; `answer` is to the question of the first one.
    pub(super) fn advance_requests(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        mut answer: Option<(usize, AuthorizeAnswer)>,
        shell: &mut S,
    ) {
        loop {
            let Some(conn) = self.conns.get_mut(slot) else {
                return;
            };
            let Some(request) = conn.requests.pop_front() else {
                break;
            };
            match request {
                Request::Unsubscribe { packet_id, filters } => {
                    self.unsubscribe(now, slot, packet_id, &filters, shell);
                }
                Request::Subscribe { packet_id, identifier, mut filters, mut next } => {
                    if self.ask_filters(now, slot, &mut filters, &mut next, answer.take(), shell) {
                        self.subscribe(now, slot, packet_id, identifier, filters, shell);
                        continue;
                    }
                    if let Some(conn) = self.conns.get_mut(slot) {
                        let request = Request::Subscribe { packet_id, identifier, filters, next };
                        conn.requests.push_front(request);
                    }
                    return;
                }
            }
        }
        self.advance_line(now, slot, None, shell); // reads on, if that had stopped
    }

    /// Asks for each filter whether it is allowed; false while a hook is waited for.
    fn ask_filters(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        filters: &mut [Wanted],
        next: &mut usize,
        mut answer: Option<(usize, AuthorizeAnswer)>,
        shell: &mut S,
    ) -> bool {
        while let Some(wanted) = filters.get_mut(*next) {
            if let Ok(filter) = &wanted.filter {
                let after = match answer.take() {
                    Some((step, answer)) => After::Answer(step, answer),
                    None => After::Start,
                };
                let object = Object::Filter(filter, wanted.asked.qos);
                match self.authorize(now, slot, object, None, after, shell) {
                    Access::Parked(..) => return false,
                    Access::Allow(_) => {}
                    Access::Deny(denial, _) => {
                        self.report_denial(slot, filter.as_str(), &denial, shell);
                        wanted.filter = Err(denial.code);
                    }
                }
            }
            *next += 1;
        }
        true
    }

    fn subscribe(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: Option<PacketId>,
        identifier: u32,
        filters: Vec<Wanted>,
        shell: &mut S,
    ) {
        if packet_id.is_none() {
            for Wanted { filter, asked } in &filters {
                if let Err(code) = filter {
                    self.refuse_auto(slot, &asked.filter, *code, shell);
                }
            }
        }
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let place = conn.session;
        let tenant = Arc::clone(&conn.tenant);
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let state = &mut session.state;
        let (id, durable) = (state.id, state.is_durable());
        let mut codes = Vec::with_capacity(filters.len());
        let mut made: Vec<(TopicFilter, SubscriptionOptions, bool)> = Vec::new();
        for Wanted { filter, asked } in filters {
            let filter = match filter {
                Ok(filter) => filter,
                Err(code) => {
                    codes.push(code);
                    continue;
                }
            };
            let options = SubscriptionOptions {
                qos: asked.qos,
                no_local: asked.no_local,
                retain_as_published: asked.retain_as_published,
                identifier,
            };
            let is_new = !state.subscriptions.contains_key(&filter);
            if is_new && state.subscriptions.len() >= self.limits.subscriptions_max {
                codes.push(ReasonCode::QuotaExceeded);
                continue;
            }
            let before = state.subscriptions.insert(filter.clone(), options);
            if durable {
                begin_change(&mut session.changes, &filter, before);
                let (session, filter) = (id, filter.clone());
                self.commits.push(Op::SubscriptionPut { session, filter, options });
            }
            codes.push(granted(asked.qos));
            // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
            let with_retained = match asked.retain_handling {
                _ if filter.share_group().is_some() => false, // MQTT 5, 4.8.2
                0 => true,
                1 => is_new,
                _ => false,
            };
            made.push((filter, options, with_retained));
        }
        let subscriber = Subscriber { worker: self.id, slot: place };
        if !made.is_empty() {
            tenant.change(|tree| {
                for (filter, options, _) in &made {
                    let subscription = state.subscription(filter, *options);
                    tree.insert(filter, subscriber, subscription);
                }
            });
            if session.live.is_some() {
                session.state.tell_there(&self.limits);
            }
        }
        // A filter that the packet names twice is answered twice [MQTT-3.8.4-4] [MQTT-3.8.4-5].
        let is_asked = made.iter().filter(|(_, _, with_retained)| *with_retained);
        let asked = is_asked.map(|(filter, options, _)| (filter.clone(), *options)).collect();
        let made: Vec<_> = made.into_iter().map(|(filter, options, _)| (filter, options)).collect();
        let done = Subscribed { conn: slot, session: place, packet_id, codes, made, asked };
        if durable {
            self.answer_after_commits(now, commit::After::Subscribe(Box::new(done)), shell);
        } else {
            self.finish_subscribe(now, done, Ok(()), shell);
        }
    }

    /// Answers when all that was asked before is committed: in order, and nothing that a failing
    /// commit takes back.
    fn answer_after_commits(&mut self, now: Millis, after: commit::After, shell: &mut S) {
        if let Some(after) = self.commits.after_all(after) {
            self.go_on(now, after, Ok(()), shell);
        }
    }

    pub(super) fn finish_subscribe(
        &mut self,
        now: Millis,
        subscribed: Subscribed,
        result: Result<(), StoreFault>,
        shell: &mut S,
    ) {
        let Subscribed { conn, session: place, packet_id, mut codes, made, asked } = subscribed;
        for (filter, options) in made {
            self.end_change(place, &filter, result.map(|()| Some(options)));
            if result.is_ok() {
                self.change_replay(place, &filter, options);
            }
        }
        if let Err(fault) = result {
            codes.iter_mut().filter(|code| !code.is_error()).for_each(|code| {
                *code = fault_code(fault);
            });
        }
        let link = self.conns.get(conn).and_then(|conn| conn.link.as_ref());
        if let (Some(link), Some(packet_id)) = (link, packet_id) {
            shell.send(link, Reply::SubAck(packet_id, &codes));
        }
        if result.is_ok() && !asked.is_empty() {
            // After the trie: a message that comes in between is seen twice rather than never.
            self.begin_replays(now, place, asked, shell);
        }
    }

    fn unsubscribe(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        packet_id: PacketId,
        filters: &[Box<str>],
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get(slot) else {
            return;
        };
        let place = conn.session;
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(tenant) = self.shared.tenant(session.state.tenant) else {
            return;
        };
        let state = &mut session.state;
        let (id, durable) = (state.id, state.is_durable());
        let mut gone = Vec::new();
        let mut codes = Vec::with_capacity(filters.len());
        for text in filters {
            let filter = match parse(&renamed(&self.topics, text)) {
                Ok(filter) => filter,
                Err(code) => {
                    codes.push(code);
                    continue;
                }
            };
            let before = state.subscriptions.remove(&filter);
            state.replays.retain(|replay| replay.filter != filter);
            codes.push(match before {
                Some(_) => ReasonCode::Success,
                None => ReasonCode::NoSubscriptionExisted,
            });
            // What is gone may come back if its commit fails: it has to go by this one's then.
            let is_changing = session.changes.contains_key(&filter);
            if before.is_none() && !is_changing {
                continue;
            }
            if durable {
                begin_change(&mut session.changes, &filter, before);
                self.commits.push(Op::SubscriptionEnd { session: id, filter: filter.clone() });
            }
            gone.push(filter);
        }
        if !gone.is_empty() {
            let subscriber = Subscriber { worker: self.id, slot: place };
            tenant.change(|tree| {
                for filter in &gone {
                    tree.remove(filter, subscriber);
                }
            });
            self.leave_groups(place, &gone);
        }
        let done = Unsubscribed { conn: slot, session: place, packet_id, codes, gone };
        if durable {
            self.answer_after_commits(now, commit::After::Unsubscribe(Box::new(done)), shell);
        } else {
            self.finish_unsubscribe(done, Ok(()), shell);
        }
    }

    pub(super) fn finish_unsubscribe(
        &mut self,
        unsubscribed: Unsubscribed,
        result: Result<(), StoreFault>,
        shell: &mut S,
    ) {
        let Unsubscribed { conn, session, packet_id, mut codes, gone } = unsubscribed;
        for filter in gone {
            self.end_change(session, &filter, result.map(|()| None));
        }
        if result.is_err() {
            codes.fill(ReasonCode::UnspecifiedError); // of a full store UNSUBACK can't tell
        }
        if let Some(link) = self.conns.get(conn).and_then(|conn| conn.link.as_ref()) {
            shell.send(link, Reply::UnsubAck(packet_id, &codes));
        }
    }

    /// A change of a filter was committed, to that, or not. After the last one, what was committed
    /// last holds.
    fn end_change(
        &mut self,
        place: SessionSlot,
        filter: &TopicFilter,
        result: Result<Option<SubscriptionOptions>, StoreFault>,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Some(change) = session.changes.get_mut(filter) else {
            return;
        };
        if change.void > 0 {
            change.void -= 1;
        } else if let Ok(options) = result {
            change.committed = options;
        }
        change.open -= 1;
        if change.open > 0 {
            return;
        }
        let committed = change.committed;
        session.changes.remove(filter);
        let state = &mut session.state;
        if state.subscriptions.get(filter) == committed.as_ref() {
            return;
        }
        let Some(tenant) = self.shared.tenant(state.tenant) else {
            return;
        };
        let here = Subscriber { worker: self.id, slot: place };
        let leaving = self.fences.get(&place);
        let subscriber = leaving.map_or(here, super::moves::Leaving::subscriber);
        tenant.change(|tree| match committed {
            Some(options) => {
                state.subscriptions.insert(filter.clone(), options);
                tree.insert(filter, subscriber, state.subscription(filter, options));
            }
            None => {
                state.subscriptions.remove(filter);
                tree.remove(filter, subscriber);
            }
        });
        if committed.is_none() {
            self.leave_groups(place, std::slice::from_ref(filter));
        }
    }
}

fn begin_change(
    changes: &mut FastMap<TopicFilter, Change>,
    filter: &TopicFilter,
    before: Option<SubscriptionOptions>,
) {
    let change =
        changes.entry(filter.clone()).or_insert(Change { committed: before, open: 0, void: 0 });
    change.open += 1;
}

/// What a Topic Filter becomes before anything else is asked about it.
fn renamed<'t>(topics: &TopicSettings, filter: &'t str) -> Cow<'t, str> {
    topics.rewrites.as_ref().map_or(Cow::Borrowed(filter), |rewrites| rewrites.filter(filter))
}

fn parse(text: &str) -> Result<TopicFilter, ReasonCode> {
    TopicFilter::parse(text).map_err(|_| ReasonCode::TopicFilterInvalid)
}

const fn granted(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQos1,
        QoS::ExactlyOnce => ReasonCode::GrantedQos2,
    }
}
