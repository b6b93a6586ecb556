//! Mail between workers, and from the control runtime to them.
//! What must not live here: what the mail says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use atomic_waker::AtomicWaker;
use wasmqtt_core::access::RuleSet;
use wasmqtt_core::event::Mail;
use wasmqtt_core::hook::HookAnswer;
use wasmqtt_core::ids::{HookToken, TenantId};

use crate::net::listener::Accepted;

/// Weight in a mailbox beyond which its senders stop reading from their sockets.
const WEIGHT_MAX: usize = 64 * 1024 * 1024;

/// What a letter weighs beside its payload: 16,384 small ones fill a mailbox.
const LETTER_WEIGHT: usize = 4096;

/// What a worker finds in its mailbox.
pub(crate) enum Letter {
    /// A connection that came in by a listener.
    Accepted(Accepted),
    /// From another worker.
    Mail(Mail),
    /// Somebody's login, or a step of it, was decided, at that epoch of the principals (`auth`).
    LoggedIn { token: HookToken, answer: HookAnswer, epoch: u64 },
    /// A tenant's rules changed; the sender waits until they are in force.
    Rules(TenantId, Arc<RuleSet>, SyncSender<()>),
    /// Close a principal's connections, and end its sessions if it is gone.
    Kick { tenant: TenantId, principal: Box<str>, is_gone: bool },
    /// Say how you are.
    Status(SyncSender<WorkerStatus>),
    /// Close all connections, if that was not done yet; answered when they are closed.
    Shutdown(SyncSender<()>),
    /// End the worker's thread.
    Exit,
}

/// How a worker is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WorkerStatus {
    pub(crate) connections: usize,
    pub(crate) sessions: usize,
    pub(crate) counters: wasmqtt_core::worker::Counters,
}

impl Letter {
    /// Bytes that it may hold on to, roughly.
    pub(crate) fn weight(&self) -> usize {
        let Self::Mail(mail) = self else {
            return LETTER_WEIGHT;
        };
        let message = match mail {
            Mail::Deliver { message, .. } | Mail::Share { message, .. } => message,
            Mail::ShareAgain(again) => &again.message,
            Mail::Take { .. }
            | Mail::Moved { .. }
            | Mail::Fence { .. }
            | Mail::FenceDone { .. } => {
                return LETTER_WEIGHT;
            }
        };
        LETTER_WEIGHT + message.payload().len()
    }
}

/// One worker's mailbox.
#[derive(Default)]
pub(crate) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    /// Of the letters that are not handled yet.
    weight: AtomicUsize,
    pending: AtomicBool,
    is_closing: AtomicBool,
    waker: AtomicWaker,
}

impl Mailbox {
    /// Appends letters, leaving `letters` empty, and wakes the worker at most once.
    pub(crate) fn append(&self, letters: &mut Vec<Letter>) {
        if letters.is_empty() {
            return;
        }
        let weight = letters.iter().map(Letter::weight).sum();
        let mut waiting = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        self.weight.fetch_add(weight, Ordering::AcqRel);
        waiting.append(letters);
        drop(waiting);
        self.wake();
    }

    /// Appends one letter.
    pub(crate) fn post(&self, letter: Letter) {
        self.append(&mut vec![letter]);
    }

    /// Has its worker look into it, also when nothing came.
    pub(crate) fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Whether senders should stop reading.
    pub(crate) fn is_full(&self) -> bool {
        self.weight.load(Ordering::Acquire) > WEIGHT_MAX
    }

    /// Moves what is there into `letters`.
    pub(crate) fn poll_take(&self, letters: &mut VecDeque<Letter>, waker: &Waker) -> Poll<()> {
        self.waker.register(waker);
        if !self.pending.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let mut waiting = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.extend(waiting.drain(..));
        Poll::Ready(())
    }

    /// Has its worker close all connections before it handles more mail.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether that was asked since the last look.
    pub(crate) fn take_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed) && self.is_closing.swap(false, Ordering::Acquire)
    }

    /// Letters of that weight are handled; whether senders that stopped may go on since.
    pub(crate) fn handled(&self, weight: usize) -> bool {
        let before = self.weight.fetch_sub(weight, Ordering::AcqRel);
        before > WEIGHT_MAX && before - weight <= WEIGHT_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_full_until_enough_was_handled() {
        let mailbox = Mailbox::default();
        let mut letters: Vec<Letter> =
            (0..=WEIGHT_MAX / LETTER_WEIGHT).map(|_| Letter::Exit).collect();
        let count = letters.len();
        mailbox.append(&mut letters);
        assert!(mailbox.is_full());
        let mut taken = VecDeque::new();
        assert!(mailbox.poll_take(&mut taken, Waker::noop()).is_ready());
        assert_eq!(taken.len(), count);
        assert!(mailbox.is_full(), "taken is not handled");
        assert!(mailbox.handled(LETTER_WEIGHT));
        assert!(!mailbox.is_full());
        assert!(!mailbox.handled(LETTER_WEIGHT), "senders were woken already");
        assert!(mailbox.poll_take(&mut taken, Waker::noop()).is_pending());
    }
}
