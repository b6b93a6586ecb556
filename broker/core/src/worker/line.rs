//! Publishes that wait for a hook, a commit, or those before them: decided and released in order.
//! What must not live here: what the hooks say (`hooks`) and what is sent (`publish`, `deliver`).

use std::sync::Arc;

use crate::action::Shell;
use crate::hook::{Denial, HookAnswer};
use crate::ids::ConnSlot;
use crate::message::QoS;
use crate::session::will::Will;
use crate::store::StoreFault;
use crate::time::Millis;

use super::Worker;
use super::commit::{After, fault_code};
use super::entry::{Entry, Hooks, Stage};
use super::hooks::{Late, Outcome};
use super::publish::Refusal;
use super::share::{Chosen, unchoose};

impl<S: Shell> Worker<S> {
    /// Publishes a Will, behind everything that its connection sent. Its expiry begins to count.
    pub(super) fn publish_will(&mut self, now: Millis, slot: ConnSlot, will: Will, shell: &mut S) {
        let due = will.hold_seconds.map(|seconds| now.plus_seconds(u64::from(seconds)));
        let expiry = will.expiry_seconds.map(u64::from);
        let mut message = will.message;
        message.expires_at =
            expiry.map_or(Millis::NEVER, |seconds| due.unwrap_or(now).plus_seconds(seconds));
        let entry = Entry::new(message, (None, QoS::AtMostOnce), true);
        self.wait_in_line(slot, Entry { due, ..entry }, shell);
        self.advance_line(now, slot, None, shell);
    }

    /// Appends an entry; stops reading from a client whose line is full.
    pub(super) fn wait_in_line(&mut self, slot: ConnSlot, entry: Entry, shell: &mut S) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        conn.line_bytes += entry.bytes;
        if entry.acknowledge == QoS::AtLeastOnce {
            conn.unacknowledged_qos1 = conn.unacknowledged_qos1.saturating_add(1);
        }
        conn.line.push(entry);
        let is_full = conn.line.len() >= self.limits.line_messages_max
            || conn.line_bytes >= self.limits.line_bytes_max;
        if is_full && conn.reading {
            conn.reading = false;
            if let Some(link) = &conn.link {
                shell.set_reading(link, false);
            }
        }
    }

    pub(super) fn handle_publish_committed(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        number: u64,
        result: Result<(), StoreFault>,
        shell: &mut S,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        if let Some(entry) = conn.line.get_mut(number)
            && let Stage::Accepted { committed, .. } = &mut entry.stage
        {
            *committed = Some(result);
        }
        self.advance_line(now, slot, None, shell);
    }

    /// Moves a line on as far as it goes; `answer` is to the oldest undecided entry's question.
    pub(super) fn advance_line(
        &mut self,
        now: Millis,
        slot: ConnSlot,
        answer: Option<HookAnswer>,
        shell: &mut S,
    ) {
        let mut late = match answer {
            None => Late::None,
            Some(HookAnswer::Authorize(answer)) => Late::Authorize(answer),
            Some(HookAnswer::OnPublish(verdict)) => Late::OnPublish(verdict),
            Some(HookAnswer::Authenticate(_) | HookAnswer::Exchange(_)) => return,
        };
        while self.decide_next(now, slot, std::mem::replace(&mut late, Late::None), shell) {}
        while self.release_next(now, slot, shell) {}
        let Some(conn) = self.conns.get_mut(slot) else {
            return;
        };
        let has_room = conn.line.len() * 2 <= self.limits.line_messages_max
            && conn.line_bytes * 2 <= self.limits.line_bytes_max
            && conn.requests.len() * 2 <= self.limits.subscribes_pending_max;
        if has_room && !conn.reading {
            conn.reading = true;
            conn.last_received = now;
            if let Some(link) = &conn.link {
                shell.set_reading(link, true);
            }
        }
        self.finish_if_drained(now, slot, shell);
    }

    /// Asks the hooks for the oldest undecided entry; whether it was decided.
    fn decide_next(&mut self, now: Millis, slot: ConnSlot, late: Late, shell: &mut S) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let hint = conn.route;
        let Some((number, entry)) = conn.line.next_undecided() else {
            return false;
        };
        let hooks = match &entry.stage {
            Stage::Hooks(hooks) => *hooks,
            Stage::Accepted { .. } | Stage::Refused(_) => {
                conn.line.decide(); // it was, when it came to the head of an empty line
                return true;
            }
        };
        if hooks.is_asked() && matches!(late, Late::None) {
            return false;
        }
        let (message, is_will) = (Arc::clone(&entry.message), entry.is_will);
        let due = entry.due;
        let acknowledgement = entry.acknowledgement();
        let outcome = match self.route(slot, message.topic(), hint, shell) {
            Ok(route) => {
                let passing = (message.as_ref().as_ref(), route);
                let kind = (is_will, due.is_some());
                self.ask_hooks(now, slot, passing, kind, hooks, late, shell)
            }
            Err(code) => Outcome::Refused(Denial::new(code)),
        };
        let mut ticket = None;
        let (stage, changed) = match outcome {
            Outcome::Parked(hooks, changed) => (Stage::Hooks(hooks), changed.map(Arc::new)),
            Outcome::Refused(denial) => {
                self.report_denial(slot, message.topic(), &denial, shell);
                (Stage::Refused(denial), None)
            }
            Outcome::Accepted(..) if let Some(due) = due => {
                match self.keep_delayed(slot, &message, due, is_will) {
                    Ok(kept) => {
                        ticket = Some(kept);
                        let waits = message.qos > QoS::AtMostOnce;
                        if waits {
                            self.store_inbound(slot, acknowledgement);
                            self.commits.after_open(After::Publish { conn: slot, number });
                        }
                        let (set, committed) = (Arc::default(), (!waits).then_some(Ok(())));
                        (Stage::Accepted { set, chosen: Chosen::new(), id: None, committed }, None)
                    }
                    Err(denial) => {
                        self.report_denial(slot, message.topic(), &denial, shell);
                        (Stage::Refused(denial), None)
                    }
                }
            }
            Outcome::Accepted(route, changed) => {
                let set = self.routes.get(route).map(|route| Arc::clone(&route.set));
                let set = set.unwrap_or_default();
                let owned = changed.map_or(message, Arc::new);
                let passing = owned.as_ref().as_ref();
                let chosen = self.choose(slot, passing, &set);
                let routed = (&*set, &*chosen);
                let first = self.is_committed_first(slot, passing, routed, acknowledgement);
                let mut id = None;
                if first {
                    id = self.start_commit(slot, &owned, routed, acknowledgement);
                    self.commits.after_open(After::Publish { conn: slot, number });
                }
                let committed = (!first).then_some(Ok(()));
                (Stage::Accepted { set, chosen, id, committed }, Some(owned))
            }
        };
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        let is_decided = !matches!(stage, Stage::Hooks(_));
        if let Some(entry) = conn.line.get_mut(number) {
            entry.stage = stage;
            entry.ticket = entry.ticket.or(ticket);
            if let Some(changed) = changed {
                entry.message = changed;
            }
        }
        if is_decided {
            conn.line.decide();
        }
        is_decided
    }

    /// Lets the oldest entry leave, if it may; whether it did.
    fn release_next(&mut self, now: Millis, slot: ConnSlot, shell: &mut S) -> bool {
        let Some(conn) = self.conns.get_mut(slot) else {
            return false;
        };
        match conn.line.front().map(|entry| &entry.stage) {
            None | Some(Stage::Hooks(_) | Stage::Accepted { committed: None, .. }) => return false,
            Some(Stage::Accepted { .. } | Stage::Refused(_)) => {}
        }
        let Some(entry) = conn.line.release() else {
            return false;
        };
        conn.line_bytes -= entry.bytes;
        if entry.acknowledge == QoS::AtLeastOnce {
            conn.unacknowledged_qos1 -= 1;
        }
        let acknowledgement = entry.acknowledgement();
        let (due, is_will, ticket) = (entry.due, entry.is_will, entry.ticket);
        if let Stage::Accepted { set, chosen, committed: Some(Err(_)), .. } = &entry.stage {
            unchoose(set, chosen);
        }
        let outcome = match entry.stage {
            Stage::Hooks(_) | Stage::Accepted { committed: None, .. } => return false,
            // Nobody would send it again.
            Stage::Accepted { committed: Some(Err(_)), .. }
                if due.is_none() && ticket.is_some() =>
            {
                self.schedule_again(now, slot, entry);
                return true;
            }
            Stage::Accepted { committed: Some(Err(fault)), .. } => {
                if let Some(ticket) = ticket {
                    self.forget_delayed(slot, ticket);
                }
                let denial = Denial::new(fault_code(fault));
                self.report_denial(slot, entry.message.topic(), &denial, shell);
                Err(Refusal { denial, is_fault: true })
            }
            Stage::Accepted { .. } if let (Some(due), Some(ticket)) = (due, ticket) => {
                self.schedule(slot, entry.message, due, is_will, ticket);
                Ok(1) // whoever gets it then
            }
            Stage::Accepted { set, chosen, id, committed: Some(Ok(())) } => {
                let message = entry.message.as_ref().as_ref();
                let mut kept = Some(Arc::clone(&entry.message));
                self.deliver(now, slot, message, &mut kept, id, (&set, &chosen), shell)
            }
            Stage::Refused(denial) => Err(Refusal { is_fault: denial.code.is_fault(), denial }),
        };
        if let (Some(ticket), None) = (ticket, due) {
            self.end_delayed(slot, ticket);
        }
        self.acknowledge(now, slot, acknowledgement, outcome, shell);
        true
    }
}

impl Hooks {
    const fn is_asked(self) -> bool {
        matches!(self, Self::AuthorizeAsked(_) | Self::OnPublishAsked | Self::AgainAsked(_))
    }
}
