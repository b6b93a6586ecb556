//! Identifiers: plain numbers that are never reused while anything can still name them.
//! What must not live here: anything that looks an identifier up.

use std::fmt;
use std::num::NonZeroU16;

/// A tenant. Never reused, also not after the tenant was purged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TenantId(pub u32);

impl TenantId {
    /// The tenant that every new instance has.
    pub const DEFAULT: Self = Self(1);
}

/// One worker thread, numbered from 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WorkerId(pub u16);

impl WorkerId {
    /// The worker's place in a per-worker array.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One Network Connection: the worker's number in the upper 16 bits, a counter in the lower 48.
/// Never reused in the life of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The `counter`th connection of `worker`.
    #[must_use]
    pub const fn new(worker: WorkerId, counter: u64) -> Self {
        Self(((worker.0 as u64) << 48) | (counter & 0xffff_ffff_ffff))
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0 >> 48, self.0 & 0xffff_ffff_ffff)
    }
}

/// One Session, across connections and workers: the creating worker's number in the upper 16
/// bits, a counter in the lower 48. Never reused in the life of a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The `counter`th session that `worker` created.
    #[must_use]
    pub const fn new(worker: WorkerId, counter: u64) -> Self {
        Self(((worker.0 as u64) << 48) | (counter & 0xffff_ffff_ffff))
    }
}

/// One stored Application Message, from blocks leased in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MessageId(pub u64);

/// One group of store operations that is committed, or fails, as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BatchId(pub u64);

/// A question to a hook that has not been answered yet; unique within its worker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HookToken(pub u64);

/// Packet Identifier: a non-zero number per connection and direction [MQTT-2.2.1-3].
pub type PacketId = NonZeroU16;

slotmap::new_key_type! {
    /// A connection's place in its worker; carries a generation, so a stale one finds nothing.
    pub struct ConnSlot;
    /// A session's place in its worker; carries a generation, so a stale one finds nothing.
    pub struct SessionSlot;
}
