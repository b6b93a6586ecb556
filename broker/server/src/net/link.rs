//! A connection's write end, as the worker holds it.
//! What must not live here: reading.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use ntex::io::IoRef;
use ntex::task::LocalWaker;
use wasmqtt_core::ids::ConnSlot;
use wasmqtt_core::limits::FRAME_BYTES_PER_SECOND_MIN;
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::router::traffic::Traffic;
use wasmqtt_core::time::Millis;

use super::alias::{Aliases, Naming};
use super::decode::Terms;
use super::encode;

/// What the connection's task and the worker share.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) io: IoRef,
    pub(crate) terms: Terms,
    /// What its worker counts of its tenant.
    pub(crate) traffic: Arc<Traffic>,
    /// Where the worker keeps the connection; set as soon as it does.
    pub(crate) slot: Cell<ConnSlot>,
    /// Where bytes wait that were gathered for it, if any do (`outgoing`).
    pub(crate) gathered: Cell<Option<usize>>,
    /// Whether its socket was full when the first of them was gathered.
    pub(crate) was_full: Cell<bool>,
    /// Whether its next packet is a PUBLISH that waits until other workers have caught up.
    pub(crate) is_held: Cell<bool>,
    /// Whether it is among those that its worker wakes then.
    pub(crate) is_stalled: Cell<bool>,
    /// When the packet that is not whole began, and how much of it came; `None`: there is none.
    begun: Cell<Option<(Millis, usize)>>,
    reading: Cell<bool>,
    open: Cell<bool>,
    failure: Cell<Option<Failure>>,
    /// None until a topic came that may have one.
    aliases: RefCell<Option<Box<Aliases>>>,
    waker: LocalWaker,
}

/// What is longer than the client's Maximum Packet Size and can't be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// CONNACK.
    ConnAck,
    /// Any other answer.
    Answer,
}

/// The worker's handle.
pub(crate) type Link = Rc<Conn>;

impl Conn {
    pub(crate) fn new(io: IoRef, terms: Terms, traffic: Arc<Traffic>) -> Link {
        Rc::new(Self {
            io,
            terms,
            traffic,
            slot: Cell::new(ConnSlot::default()),
            gathered: Cell::new(None),
            was_full: Cell::new(false),
            is_held: Cell::new(false),
            is_stalled: Cell::new(false),
            begun: Cell::new(None),
            reading: Cell::new(false),
            open: Cell::new(true),
            failure: Cell::new(None),
            aliases: RefCell::new(None),
            waker: LocalWaker::new(),
        })
    }

    /// How the next PUBLISH names its topic [MQTT-3.1.2-26].
    pub(crate) fn naming(&self, topic: &str) -> Naming {
        let mut aliases = self.aliases.borrow_mut();
        aliases.get_or_insert_default().naming(topic, self.terms.topic_aliases_max)
    }

    /// So many bytes are left that were not handled; whether they begin another packet than before.
    pub(crate) fn note_rest(&self, now: Millis, bytes: usize, is_new: bool) {
        let since = self.begun.get().filter(|_| !is_new).map_or(now, |(since, _)| since);
        self.begun.set((bytes > 0).then_some((since, bytes)));
    }

    /// Whether the packet that has begun takes longer than it may.
    pub(crate) fn is_overdue(&self, now: Millis, timeout_seconds: u32) -> bool {
        self.begun.get().is_some_and(|(since, bytes)| {
            let earned_ms = bytes as u64 * 1000 / FRAME_BYTES_PER_SECOND_MIN;
            now.since(since) > u64::from(timeout_seconds) * 1000 + earned_ms
        })
    }

    /// What has begun was not read on for a reason that is not the client's: its time begins anew.
    pub(crate) fn excuse(&self, now: Millis) {
        self.begun.set(self.begun.get().map(|(_, bytes)| (now, bytes)));
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    pub(crate) fn is_reading(&self) -> bool {
        self.reading.get() && self.open.get() && self.failure.get().is_none()
    }

    pub(crate) fn set_reading(&self, reading: bool) {
        self.reading.set(reading);
        self.waker.wake();
    }

    /// Has the task look again.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    /// The task is woken when reading goes on, or the connection was closed.
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Sends DISCONNECT where a code is given; the task then closes after what was written.
    pub(crate) fn close(&self, code: Option<ReasonCode>) {
        if !self.open.replace(false) {
            return;
        }
        let disconnect = code.and_then(|code| encode::disconnect(self.terms, code));
        if let Some(disconnect) = disconnect.filter(|_| !self.is_mute()) {
            // A socket that is closing already takes nothing more, which is fine.
            let _ = self.io.encode_slice(&disconnect);
        }
        self.waker.wake();
    }

    /// An answer could not be sent: nothing more is, and the task ends the connection.
    pub(crate) fn fail(&self, failure: Failure) {
        self.failure.set(Some(failure));
        self.waker.wake();
    }

    /// What could not be sent, if something could not.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.get()
    }

    /// Whether not even a DISCONNECT may be sent: the first packet is CONNACK or none
    /// [MQTT-3.2.0-1].
    fn is_mute(&self) -> bool {
        self.failure.get() == Some(Failure::ConnAck)
    }
}
