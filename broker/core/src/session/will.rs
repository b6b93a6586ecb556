//! A Will, and one that waits for its delay [MQTT 3.1.3.2].
//! What must not live here: when it is published.

use std::sync::Arc;

use crate::hook::{ConnectionFacts, Principal};
use crate::message::Message;
use crate::time::Millis;

/// A Will [MQTT 3.1.3.2].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Will {
    /// What is published; its expiry counts from then.
    pub message: Message,
    /// Will Delay Interval.
    pub delay_seconds: u32,
    /// Message Expiry Interval, counted from the publication.
    pub expiry_seconds: Option<u32>,
    /// How long it is kept when it is published, if its topic asks for that.
    pub hold_seconds: Option<u32>,
}

/// A Will that waits for its delay after the connection was lost [MQTT 3.1.3.2.2].
#[derive(Debug)]
pub struct DelayedWill {
    /// The Will.
    pub will: Box<Will>,
    /// When it fires.
    pub due: Millis,
    /// Whose it is.
    pub facts: Arc<ConnectionFacts>,
    /// Who that was.
    pub principal: Arc<Principal>,
}
