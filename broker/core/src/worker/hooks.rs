//! The hooks of one message: `authorize`, `on-publish`, and `authorize` again for what it became.
//! What must not live here: what happens to the message then.

use crate::action::Shell;
use crate::hook::{
    AccessAction, AuthorizeAnswer, Denial, HookReply, OnPublishRequest, PublishVerdict, Replacement,
};
use crate::ids::ConnSlot;
use crate::message::{Message, MessageRef};
use crate::reason::ReasonCode;
use crate::router::RouteRef;
use crate::time::Millis;

use super::access::{Access, After, Object};
use super::entry::Hooks;
use super::{Parked, ParkedFor, Worker};

/// What the hooks came to, as far as they have been asked.
pub(super) enum Outcome {
    /// The message may pass, changed or not.
    Accepted(RouteRef, Option<Message>),
    /// It may not.
    Refused(Denial),
    /// A hook answers later.
    Parked(Hooks, Option<Message>),
}

/// An answer that came later.
pub(super) enum Late {
    None,
    Authorize(AuthorizeAnswer),
    OnPublish(PublishVerdict),
}

impl<S: Shell> Worker<S> {
    /// The route of a topic; the Reason Code for a Topic Name that is not valid.
    pub(super) fn route(
        &mut self,
        slot: ConnSlot,
        topic: &str,
        hint: Option<RouteRef>,
        shell: &mut S,
    ) -> Result<RouteRef, ReasonCode> {
        let Some(conn) = self.conns.get_mut(slot) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let tenant = &conn.tenant;
        let bounds = (self.workers, self.limits.routes_max);
        let route = self
            .routes
            .find(tenant, topic, hint, bounds, |topic| shell.chain_mask(tenant.id, topic))
            .map_err(|_| ReasonCode::TopicNameInvalid)?;
        conn.route = Some(route);
        Ok(route)
    }

    /// Asks `authorize`, `on-publish` and `authorize` again, from where `hooks` says. Of a message
    /// that is to be published later only whether it may be.
    #[expect(clippy::too_many_arguments, reason = "one walk of one message, read top down")]
    pub(super) fn ask_hooks(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        (message, mut route): (MessageRef<'_>, RouteRef),
        (is_will, is_delayed): (bool, bool),
        mut hooks: Hooks,
        mut late: Late,
        shell: &mut S,
    ) -> Outcome {
        let action = if is_will { AccessAction::Will } else { AccessAction::Publish };
        let mut changed: Option<Message> = None;
        loop {
            let current = changed.as_ref().map_or(message, Message::as_ref);
            let (after, again) = match (hooks, std::mem::replace(&mut late, Late::None)) {
                (Hooks::Authorize, _) => {
                    if self.topics.check_payload_format && !current.keeps_its_format() {
                        return Outcome::Refused(Denial::new(ReasonCode::PayloadFormatInvalid));
                    }
                    (After::Start, false)
                }
                (Hooks::Again, _) => (After::Start, true),
                (Hooks::AuthorizeAsked(step), Late::Authorize(answer)) => {
                    (After::Answer(step, answer), false)
                }
                (Hooks::AgainAsked(step), Late::Authorize(answer)) => {
                    (After::Answer(step, answer), true)
                }
                (Hooks::OnPublishAsked, Late::OnPublish(verdict)) => {
                    match self.take_verdict(slot, current, verdict, shell) {
                        Ok(None) => return Outcome::Accepted(route, changed),
                        Ok(Some((message, other, false))) => {
                            return Outcome::Accepted(other, Some(message));
                        }
                        Ok(Some((message, other, true))) => {
                            route = other;
                            changed = Some(message);
                            hooks = Hooks::Again;
                            continue;
                        }
                        Err(denial) => return Outcome::Refused(denial),
                    }
                }
                (asked, Late::None) => return Outcome::Parked(asked, changed),
                (_, Late::Authorize(_) | Late::OnPublish(_)) => {
                    return Outcome::Refused(Denial::new(ReasonCode::UnspecifiedError));
                }
            };
            let object = Object::Message(action, current);
            match self.authorize(now, slot, object, Some(route), after, shell) {
                Access::Allow(_) if again || is_delayed => {
                    return Outcome::Accepted(route, changed);
                }
                Access::Allow(_) => {}
                Access::Deny(denial, _) => return Outcome::Refused(denial),
                Access::Parked(_, step) if again => {
                    return Outcome::Parked(Hooks::AgainAsked(step), changed);
                }
                Access::Parked(_, step) => {
                    return Outcome::Parked(Hooks::AuthorizeAsked(step), changed);
                }
            }
            match self.ask_on_publish(slot, current, route, shell) {
                None => return Outcome::Accepted(route, changed),
                Some(HookReply::Parked) => return Outcome::Parked(Hooks::OnPublishAsked, changed),
                Some(HookReply::Now(verdict)) => {
                    hooks = Hooks::OnPublishAsked;
                    late = Late::OnPublish(verdict);
                }
            }
        }
    }

    fn ask_on_publish(
        &mut self,
        slot: ConnSlot,
        message: MessageRef<'_>,
        route: RouteRef,
        shell: &mut S,
    ) -> Option<HookReply<PublishVerdict>> {
        let chain = self.routes.get(route)?.chain;
        if chain.is_empty() {
            return None;
        }
        let token = self.token();
        let conn = self.conns.get(slot)?;
        let request = OnPublishRequest {
            connection: &conn.facts,
            principal: &conn.principal,
            chain,
            message,
        };
        let reply = shell.on_publish(token, request);
        if let HookReply::Parked = reply {
            self.parked.insert(token, Parked { conn: slot, what: ParkedFor::Publish });
        }
        Some(reply)
    }

    /// Applies what `on-publish` answered: the changed message, its route, and whether it must be
    /// authorized again.
    fn take_verdict(
        &mut self,
        slot: ConnSlot,
        message: MessageRef<'_>,
        verdict: PublishVerdict,
        shell: &mut S,
    ) -> Result<Option<(Message, RouteRef, bool)>, Denial> {
        let replacement = match verdict {
            PublishVerdict::Pass => return Ok(None),
            PublishVerdict::Drop(denial) => return Err(denial),
            PublishVerdict::Replace(replacement) => *replacement,
        };
        let Replacement { topic, payload, qos, retain } = replacement;
        let changed = MessageRef {
            topic: topic.as_deref().unwrap_or(message.topic),
            payload: payload.as_deref().unwrap_or(message.payload),
            qos: qos.unwrap_or(message.qos),
            retain: retain.unwrap_or(message.retain),
            ..message
        };
        let again = changed.topic != message.topic
            || changed.qos != message.qos
            || changed.retain != message.retain;
        let hint = self.conns.get(slot).and_then(|conn| conn.route);
        let route = self.route(slot, changed.topic, hint, shell).map_err(Denial::new)?;
        Ok(Some((Message::new(changed), route, again)))
    }
}
