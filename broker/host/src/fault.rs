//! Faults: what can go wrong with one call of a plugin.
//! What must not live here: what follows from a fault.

use std::fmt;

use thiserror::Error;
use wasmtime::Trap;

/// What went wrong, for counters and tests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FaultKind {
    /// The plugin trapped: a panic, an access outside its memory, a broken contract.
    Trap,
    /// More CPU time than the call may use.
    CpuDeadline,
    /// More wall time than the call may use.
    WallDeadline,
    /// More memory than the instance may use.
    Memory,
    /// Recursion too deep.
    Stack,
    /// An answer or argument that the contract does not allow.
    BadAnswer,
    /// No instance could be made: instantiation or `init` failed.
    Start,
    /// No instance was free or ready; not counted against the plugin.
    NotReady,
    /// In quarantine after too many faults; the plugin was not called.
    Quarantined,
}

impl FaultKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Trap,
        Self::CpuDeadline,
        Self::WallDeadline,
        Self::Memory,
        Self::Stack,
        Self::BadAnswer,
        Self::Start,
        Self::NotReady,
        Self::Quarantined,
    ];

    /// A stable name for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::CpuDeadline => "cpu-deadline",
            Self::WallDeadline => "wall-deadline",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::BadAnswer => "bad-answer",
            Self::Start => "start",
            Self::NotReady => "not-ready",
            Self::Quarantined => "quarantined",
        }
    }

    /// Whether the plugin is to blame, so that the breaker counts it.
    pub(crate) const fn is_plugins(self) -> bool {
        !matches!(self, Self::NotReady | Self::Quarantined)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One fault, with words for the operator.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{kind}: {text}")]
pub struct Fault {
    /// What went wrong.
    pub kind: FaultKind,
    /// Details; never a payload or password.
    pub text: String,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// Sorts what a call into a plugin failed with. `memory_was_refused`: languages answer refused
    /// memory with a trap of their own.
    pub(crate) fn from_call(error: &wasmtime::Error, memory_was_refused: bool) -> Self {
        if let Some(stop) = error.downcast_ref::<Stop>() {
            return Self::new(stop.kind, stop.text);
        }
        let trap = error.downcast_ref::<Trap>();
        let kind = match trap {
            Some(Trap::StackOverflow) => FaultKind::Stack,
            _ if memory_was_refused => FaultKind::Memory,
            _ => FaultKind::Trap,
        };
        let text = match (kind, trap) {
            (FaultKind::Memory, _) => "the memory limit was reached".to_owned(),
            (_, Some(trap)) => trap.to_string(),
            (_, None) => error.root_cause().to_string(),
        };
        Self::new(kind, text)
    }
}

/// What host functions and the tick end a call with.
#[derive(Clone, Copy, Debug, Error)]
#[error("{text}")]
pub(crate) struct Stop {
    pub(crate) kind: FaultKind,
    pub(crate) text: &'static str,
}

impl Stop {
    /// The plugin handed something over that the contract does not allow.
    pub(crate) const fn bad(text: &'static str) -> Self {
        Self { kind: FaultKind::BadAnswer, text }
    }
}
