//! The retained messages of one tenant, by topic.
//! What must not live here: when a message is retained, and who gets it.

use std::collections::BTreeSet;
use std::fmt;

use smallvec::SmallVec;

use crate::limits::{RetainedLimits, TOPIC_LEVELS_MAX};
use crate::message::{Message, SharedMessage};
use crate::time::Millis;
use crate::topic::trie::{LevelTrie, Name, NodeId, ROOT};
use crate::topic::{TopicFilter, is_dollar, levels};

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
    topics: LevelTrie<Option<SharedMessage>>,
    /// Messages that expire at all.
    expiring: BTreeSet<(Millis, NodeId)>,
    messages: usize,
    bytes: usize,
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
        self.take(node);
        if message.expires_at != Millis::NEVER {
            self.expiring.insert((message.expires_at, node));
        }
        self.messages += 1;
        self.bytes = bytes;
        *self.topics.value_mut(node) = Some(message);
        Ok(())
    }

    /// Ends the retention of a topic's message [MQTT-3.3.1-6]; whether there was one.
    pub fn clear(&mut self, topic: &str) -> bool {
        self.topics.find(levels(topic)).is_some_and(|node| self.remove(node))
    }

    /// The message of a topic, also if it is expired.
    #[must_use]
    pub fn get(&self, topic: &str) -> Option<&SharedMessage> {
        self.topics.value(self.topics.find(levels(topic))?).as_ref()
    }

    /// Calls `found` with every message whose topic the filter matches and that is not expired.
    pub fn for_each_match(
        &self,
        filter: &TopicFilter,
        now: Millis,
        mut found: impl FnMut(&SharedMessage),
    ) {
        let mut wanted = Wanted::new();
        for text in filter.levels() {
            wanted.push(match text {
                "+" => WantedLevel::Any,
                "#" => WantedLevel::Rest,
                text => match self.topics.name(text) {
                    Some(name) => WantedLevel::Named(name),
                    None => return,
                },
            });
        }
        self.walk(ROOT, &wanted, &mut |message: &SharedMessage| {
            if !is_expired(message, now) {
                found(message);
            }
        });
    }

    /// Every message, also those that are expired; topics with a common parent come together.
    pub fn iter(&self) -> impl Iterator<Item = &SharedMessage> {
        self.topics.subtree(ROOT).filter_map(|node| self.topics.value(node).as_ref())
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

    fn walk(&self, node: NodeId, wanted: &[WantedLevel], found: &mut impl FnMut(&SharedMessage)) {
        match wanted {
            [] => self.report(node, found),
            [WantedLevel::Rest, ..] if node == ROOT => {
                let tops = self.topics.children(ROOT).filter(|child| !self.is_dollar(*child));
                for node in tops.flat_map(|top| self.topics.subtree(top)) {
                    self.report(node, found);
                }
            }
            [WantedLevel::Rest, ..] => {
                for node in self.topics.subtree(node) {
                    self.report(node, found);
                }
            }
            [WantedLevel::Named(name), rest @ ..] => {
                if let Some(child) = self.topics.child(node, *name) {
                    self.walk(child, rest, found);
                }
            }
            [WantedLevel::Any, rest @ ..] => {
                for child in self.topics.children(node) {
                    // [MQTT-4.7.2-1]
                    if node != ROOT || !self.is_dollar(child) {
                        self.walk(child, rest, found);
                    }
                }
            }
        }
    }

    fn report(&self, node: NodeId, found: &mut impl FnMut(&SharedMessage)) {
        if let Some(message) = self.topics.value(node) {
            found(message);
        }
    }

    fn is_dollar(&self, node: NodeId) -> bool {
        self.topics.text(node).is_some_and(is_dollar)
    }

    fn remove(&mut self, node: NodeId) -> bool {
        let was_there = self.take(node);
        self.topics.prune(node, Option::is_none);
        was_there
    }

    fn take(&mut self, node: NodeId) -> bool {
        let Some(old) = self.topics.value_mut(node).take() else {
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

/// A filter's levels with their texts looked up.
type Wanted = SmallVec<[WantedLevel; TOPIC_LEVELS_MAX]>;

#[derive(Clone, Copy)]
enum WantedLevel {
    Named(Name),
    Any,
    Rest,
}

fn is_expired(message: &Message, now: Millis) -> bool {
    message.expires_at != Millis::NEVER && message.expires_at <= now
}

#[cfg(test)]
mod tests;
