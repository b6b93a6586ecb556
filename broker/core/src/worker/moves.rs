//! A session moves to the worker where its client connected.
//!
//! The old owner closes the client's old connection and lets it drain, points the subscriptions to
//! the new place, and asks every worker for a fence: when all have answered, whatever they routed
//! to the old place has arrived. Only then does the session leave, as one message. The new owner
//! keeps what arrives meanwhile behind it, so the order of each publisher holds.
//! What must not live here: what happens once a session is here (`connect`).

use crate::action::Shell;
use crate::event::Mail;
use crate::ids::{SessionSlot, WorkerId};
use crate::router::Subscriber;
use crate::session::SessionState;
use crate::session::waiting::Waiting;
use crate::time::Millis;

use super::commit::After;
use super::{Waiter, Worker};

/// What comes for a session that is on its way, within the bounds of its queue.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    pub(super) waiting: Waiting,
    /// It ends as soon as it is here.
    pub(super) ends: bool,
}

/// A session that is about to leave. Its subscriptions point to its new place already.
#[derive(Debug)]
pub(super) struct Leaving {
    to: WorkerId,
    to_slot: SessionSlot,
    /// Workers that have not answered the fence; its own commits come last.
    open: usize,
}

impl Leaving {
    /// Where its subscriptions point.
    pub(super) const fn subscriber(&self) -> Subscriber {
        Subscriber { worker: self.to, slot: self.to_slot }
    }
}

impl<S: Shell> Worker<S> {
    pub(super) fn handle_take(
        &mut self,
        now: Millis,
        place: SessionSlot,
        to: WorkerId,
        to_slot: SessionSlot,
        clean: bool,
        shell: &mut S,
    ) {
        if !self.sessions.contains_key(place) {
            return shell.mail(to, Mail::Moved { slot: to_slot, state: None });
        }
        if let Some(session) = self.sessions.get_mut(place) {
            // Whoever waits here is late: the directory names the new owner.
            let waiting = session.waiter.replace(Waiter::Remote { to, to_slot, clean });
            if let Some(Waiter::Local(conn)) = waiting {
                let code = Some(crate::reason::ReasonCode::SessionTakenOver);
                self.close_connection(now, conn, code, false, shell);
            }
        }
        self.evict(now, place, shell);
        self.free_session(now, place, shell);
    }

    /// Gives a session that is free to another worker, or ends it where its client starts clean.
    pub(super) fn hand_over(
        &mut self,
        now: Millis,
        place: SessionSlot,
        to: WorkerId,
        to_slot: SessionSlot,
        clean: bool,
        shell: &mut S,
    ) {
        if clean {
            self.end_session(now, place, shell);
            return shell.mail(to, Mail::Moved { slot: to_slot, state: None });
        }
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        if let Some(tenant) = self.shared.tenant(session.state.tenant)
            && !session.state.subscriptions.is_empty()
        {
            let from = Subscriber { worker: self.id, slot: place };
            let new = Subscriber { worker: to, slot: to_slot };
            tenant.move_subscriptions(session.state.subscriptions.keys(), from, new);
        }
        let mut open = 1;
        for worker in (0..self.workers).map(WorkerId).filter(|worker| *worker != self.id) {
            shell.mail(worker, Mail::Fence { from: self.id, slot: place });
            open += 1;
        }
        self.fences.insert(place, Leaving { to, to_slot, open });
    }

    pub(super) fn handle_fence(&mut self, from: WorkerId, slot: SessionSlot, shell: &mut S) {
        if self.commits.after_all(After::Fence { from, slot }).is_some() {
            shell.mail(from, Mail::FenceDone { slot });
        }
    }

    pub(super) fn handle_fence_done(&mut self, place: SessionSlot, shell: &mut S) {
        let Some(leaving) = self.fences.get_mut(&place) else {
            return;
        };
        leaving.open -= 1;
        let is_own_left = leaving.open == 1;
        // What arrived before the last fence may have to be stored for the session.
        if is_own_left && self.commits.after_all(After::OwnFence { slot: place }).is_some() {
            return self.handle_fence_done(place, shell);
        }
        if is_own_left || self.fences.get(&place).is_some_and(|leaving| leaving.open > 0) {
            return;
        }
        let Some(Leaving { to, to_slot: slot, .. }) = self.fences.remove(&place) else {
            return;
        };
        let state = self.sessions.remove(place).map(|session| Box::new(session.state));
        shell.mail(to, Mail::Moved { slot, state });
    }

    pub(super) fn handle_moved(
        &mut self,
        now: Millis,
        place: SessionSlot,
        state: Option<Box<SessionState>>,
        shell: &mut S,
    ) {
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        let Arriving { waiting: meanwhile, ends } = session.arriving.take().unwrap_or_default();
        let existed = state.is_some();
        if let Some(state) = state {
            session.state = *state;
            let id = session.state.id;
            if let Some(tenant) = self.shared.tenant(session.state.tenant) {
                let mut directory = tenant.directory();
                if let Some(entry) = directory.get_mut(&session.state.client_id)
                    && entry.worker == self.id
                    && entry.slot == place
                {
                    entry.session = id;
                }
            }
            if let Some(delayed) = &session.state.delayed_will {
                self.timers.push(std::cmp::Reverse((delayed.due, place)));
            }
        }
        self.queue_all(place, meanwhile.into_messages(), shell);
        let Some(session) = self.sessions.get_mut(place) else {
            return;
        };
        if ends {
            session.end_when_free(&mut self.commits);
            return self.free_session(now, place, shell);
        }
        match session.waiter.take() {
            Some(Waiter::Local(conn)) if self.conns.contains_key(conn) => {
                self.settle(now, place, conn, existed, shell);
            }
            Some(waiter @ Waiter::Remote { .. }) => {
                session.waiter = Some(waiter);
                self.free_session(now, place, shell);
            }
            Some(Waiter::Local(_)) | None => self.free_session(now, place, shell),
        }
    }
}
