//! The retained messages of one tenant, by topic.
//! What must not live here: when a message is retained, and who gets it.

mod replay;

pub use replay::{Cursor, Room};

use std::collections::BTreeSet;
use std::fmt;

use crate::limits::RetainedLimits;
use crate::message::SharedMessage;
use crate::time::Millis;
use crate::topic::levels;
use crate::topic::trie::{LevelTrie, NodeId, ROOT};

/// Why a message is not retained. What was retained for its topic before still is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RetainedError {
    /// [`RetainedLimits::messages_max`]
    #[error("{messages_max} messages are retained, which is the limit")]
    Messages {
        /// The limit.
        messages_max: usize,
    },
    /// [`RetainedLimits::bytes_max`]
    #[error("the retained messages would take more than the limit of {bytes_max} bytes")]
    Bytes {
        /// The limit.
        bytes_max: usize,
    },
}

/// One tenant's retained messages: a tree of topic levels, so that a filter costs the topics that
/// it matches (and, for `+` before other levels, the siblings that it tries).
#[derive(Default)]
pub struct Retained {
    topics: LevelTrie<Place>,
    /// The age of the newest node. Siblings stand in the order of their ages.
    age: u64,
    /// Messages that expire at all.
    expiring: BTreeSet<(Millis, NodeId)>,
    messages: usize,
    bytes: usize,
}

/// A path of levels.
#[derive(Default)]
struct Place {
    message: Option<SharedMessage>,
    /// When it was made, in changes since the beginning; 0: not yet.
    age: u64,
}

impl Place {
    const fn is_empty(&self) -> bool {
        self.message.is_none()
    }
}

impl Retained {
    /// Retains the message in place of the one that its topic had [MQTT-3.3.1-5].
    ///
    /// # Errors
    /// If a limit would be passed; nothing changes then.
    pub fn set(
        &mut self,
        message: SharedMessage,
        limits: &RetainedLimits,
    ) -> Result<(), RetainedError> {
        let RetainedLimits { messages_max, bytes_max } = *limits;
        let old_size = self.get(message.topic()).map(|old| old.size());
        if old_size.is_none() && self.messages >= messages_max {
            return Err(RetainedError::Messages { messages_max });
        }
        let bytes = self.bytes - old_size.unwrap_or(0) + message.size();
        if bytes > bytes_max && bytes > self.bytes {
            return Err(RetainedError::Bytes { bytes_max });
        }
        let node = self.topics.insert(levels(message.topic()));
        self.date(node);
        self.take(node);
        if message.expires_at != Millis::NEVER {
            self.expiring.insert((message.expires_at, node));
        }
        self.messages += 1;
        self.bytes = bytes;
        self.topics.value_mut(node).message = Some(message);
        Ok(())
    }

    /// Gives an age to those of a path that have none: they were made just now.
    fn date(&mut self, node: NodeId) {
        self.age += 1;
        let mut at = node;
        while at != ROOT && self.topics.value(at).age == 0 {
            self.topics.value_mut(at).age = self.age;
            at = self.topics.parent(at);
        }
    }

    /// Ends the retention of a topic's message [MQTT-3.3.1-6]; whether there was one.
    pub fn clear(&mut self, topic: &str) -> bool {
        self.topics.find(levels(topic)).is_some_and(|node| self.remove(node))
    }

    /// The message of a topic, also if it is expired.
    #[must_use]
    pub fn get(&self, topic: &str) -> Option<&SharedMessage> {
        self.topics.value(self.topics.find(levels(topic))?).message.as_ref()
    }

    /// Every message, also those that are expired; topics with a common parent come together.
    pub fn iter(&self) -> impl Iterator<Item = &SharedMessage> {
        self.topics.subtree(ROOT).filter_map(|node| self.topics.value(node).message.as_ref())
    }

    /// Drops messages that are expired, those first that expired first, `at_most` so many; how
    /// many it dropped.
    pub fn purge_expired(&mut self, now: Millis, at_most: usize) -> usize {
        for purged in 0..at_most {
            match self.expiring.first() {
                Some(&(expires_at, node)) if expires_at <= now => self.remove(node),
                _ => return purged,
            };
        }
        at_most
    }

    /// Retained messages, expired ones that were not purged included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// What they count against [`RetainedLimits::bytes_max`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, node: NodeId) -> bool {
        let was_there = self.take(node);
        self.topics.prune(node, Place::is_empty);
        was_there
    }

    fn take(&mut self, node: NodeId) -> bool {
        let Some(old) = self.topics.value_mut(node).message.take() else {
            return false;
        };
        self.expiring.remove(&(old.expires_at, node));
        self.messages -= 1;
        self.bytes -= old.size();
        true
    }
}

impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retained")
            .field("messages", &self.messages)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
