//! Mail between workers, and from the control runtime to them.
//! What must not live here: what the mail says.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

use atomic_waker::AtomicWaker;
use wasmqtt_core::access::RuleSet;
use wasmqtt_core::event::Mail;
use wasmqtt_core::hook::AuthenticateAnswer;
use wasmqtt_core::ids::{HookToken, TenantId};

use crate::net::listener::Accepted;

/// Items in a mailbox beyond which its senders stop reading from their sockets.
pub(crate) const MAILBOX_ITEMS_MAX: usize = 16_384;

/// What a worker finds in its mailbox.
pub(crate) enum Letter {
    /// A connection that came in by a listener.
    Accepted(Accepted),
    /// From another worker.
    Mail(Mail),
    /// Somebody's login was decided, at that epoch of the principals (`auth`).
    LoggedIn { token: HookToken, answer: AuthenticateAnswer, epoch: u64 },
    /// A tenant's rules changed; the sender waits until they are in force.
    Rules(TenantId, Arc<RuleSet>, SyncSender<()>),
    /// Close a principal's connections, and end its sessions if it is gone.
    Kick { tenant: TenantId, principal: Box<str>, is_gone: bool },
    /// Say how you are.
    Status(SyncSender<WorkerStatus>),
    /// Close all connections; answered when they are closed.
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

/// One worker's mailbox.
#[derive(Default)]
pub(crate) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    count: AtomicUsize,
    pending: AtomicBool,
    waker: AtomicWaker,
}

impl Mailbox {
    /// Appends letters, leaving `letters` empty, and wakes the worker at most once.
    pub(crate) fn append(&self, letters: &mut Vec<Letter>) {
        if letters.is_empty() {
            return;
        }
        let mut waiting = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        self.count.fetch_add(letters.len(), Ordering::Relaxed);
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
        self.count.load(Ordering::Relaxed) > MAILBOX_ITEMS_MAX
    }

    /// Swaps what is there into `letters`, which is empty.
    pub(crate) fn poll_take(&self, letters: &mut Vec<Letter>, waker: &Waker) -> Poll<()> {
        self.waker.register(waker);
        if !self.pending.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        std::mem::swap(letters, &mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner));
        self.count.fetch_sub(letters.len(), Ordering::Relaxed);
        Poll::Ready(())
    }
}
