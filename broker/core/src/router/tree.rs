//! Subscriptions by Topic Filter: who is subscribed to a topic.
//! What must not live here: share groups, sessions, and what a subscription grants.

use std::fmt;
use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use crate::limits::TOPIC_LEVELS_MAX;
use crate::topic::trie::{LevelTrie, Name, NodeId, ROOT};
use crate::topic::{Levels, TopicFilter, is_dollar, levels};

mod subscribers;

use subscribers::Subscribers;

/// Subscriptions of subscribers `K` with a value `V` each (their options).
///
/// Filters without wildcards, the most by far, are in a hash table by their whole text and cost
/// one probe; the others are in a tree of levels. Finding costs the nodes that match, not the
/// filters that there are, and allocates nothing. Share names are not looked at: a subscriber that
/// may have the same filter in several groups needs a `K` that contains the group.
pub struct Tree<K, V> {
    exact: HashTable<Exact<K, V>>,
    hasher: RandomState,
    wildcard: Wildcards<K, V>,
    subscriptions: usize,
}

/// Boxed, because most inner nodes of the tree have no subscribers.
type Wildcards<K, V> = LevelTrie<Option<Box<Subscribers<K, V>>>>;

struct Exact<K, V> {
    filter: TopicFilter,
    subscribers: Subscribers<K, V>,
}

impl<K: Copy + Eq + Hash, V> Tree<K, V> {
    /// Subscribes `key`; gives the value of the subscription that this one replaces.
    pub fn insert(&mut self, filter: &TopicFilter, key: K, value: V) -> Option<V> {
        let replaced = if filter.has_wildcards() {
            let node = self.wildcard.insert(filter.levels());
            let subscribers = self.wildcard.value_mut(node).get_or_insert_default();
            subscribers.insert(key, value)
        } else {
            let Self { exact, hasher, .. } = self;
            let hash = hasher.hash_one(filter.filter());
            let is_it = |entry: &Exact<K, V>| entry.filter.filter() == filter.filter();
            exact
                .entry(hash, is_it, |entry| hasher.hash_one(entry.filter.filter()))
                .or_insert_with(|| Exact {
                    filter: filter.clone(),
                    subscribers: Subscribers::default(),
                })
                .get_mut()
                .subscribers
                .insert(key, value)
        };
        self.subscriptions += usize::from(replaced.is_none());
        replaced
    }

    /// Unsubscribes `key`; gives the value of the subscription if there was one.
    pub fn remove(&mut self, filter: &TopicFilter, key: K) -> Option<V> {
        let removed = if filter.has_wildcards() {
            let node = self.wildcard.find(filter.levels())?;
            let subscribers = self.wildcard.value_mut(node);
            let removed = subscribers.as_mut()?.remove(key)?;
            if subscribers.as_ref().is_some_and(|left| left.is_empty()) {
                *subscribers = None;
                self.wildcard.prune(node, Option::is_none);
            }
            removed
        } else {
            self.remove_exact(filter.filter(), key)?
        };
        self.subscriptions -= 1;
        Some(removed)
    }

    fn remove_exact(&mut self, topic: &str, key: K) -> Option<V> {
        let Self { exact, hasher, .. } = self;
        let is_it = |entry: &Exact<K, V>| entry.filter.filter() == topic;
        let rehash = |entry: &Exact<K, V>| hasher.hash_one(entry.filter.filter());
        let Entry::Occupied(mut entry) = exact.entry(hasher.hash_one(topic), is_it, rehash) else {
            return None;
        };
        let removed = entry.get_mut().subscribers.remove(key)?;
        if entry.get().subscribers.is_empty() {
            entry.remove();
            if exact.len() < exact.capacity() / 8 {
                exact.shrink_to(exact.len() * 2, rehash);
            }
        }
        Some(removed)
    }

    /// The value of a subscription, if it is there.
    #[must_use]
    pub fn get(&self, filter: &TopicFilter, key: K) -> Option<&V> {
        self.subscribers(filter)?.get(key)
    }

    /// The subscriptions to exactly that filter.
    #[must_use]
    pub fn at(&self, filter: &TopicFilter) -> &[(K, V)] {
        self.subscribers(filter).map_or(&[], Subscribers::as_slice)
    }

    fn subscribers(&self, filter: &TopicFilter) -> Option<&Subscribers<K, V>> {
        if filter.has_wildcards() {
            let node = self.wildcard.find(filter.levels())?;
            return self.wildcard.value(node).as_deref();
        }
        let is_it = |entry: &Exact<K, V>| entry.filter.filter() == filter.filter();
        let entry = self.exact.find(self.hasher.hash_one(filter.filter()), is_it)?;
        Some(&entry.subscribers)
    }

    /// Calls `found` with every subscription whose filter matches the (valid) Topic Name: once for
    /// each subscription, so a subscriber with overlapping filters comes more than once. No order.
    pub fn for_each_match(&self, topic: &str, mut found: impl FnMut(K, &V)) {
        if !self.exact.is_empty() {
            let is_it = |entry: &Exact<K, V>| entry.filter.filter() == topic;
            if let Some(entry) = self.exact.find(self.hasher.hash_one(topic), is_it) {
                report(Some(&entry.subscribers), &mut found);
            }
        }
        if !self.wildcard.is_empty() {
            let names = SmallVec::new();
            let mut walk = Walk { trie: &self.wildcard, rest: levels(topic), names };
            // [MQTT-4.7.2-1]
            walk.step(ROOT, 0, is_dollar(topic), &mut found);
        }
    }

    /// Subscriptions that there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Self {
            exact: HashTable::new(),
            hasher: RandomState::default(),
            wildcard: LevelTrie::default(),
            subscriptions: 0,
        }
    }
}

impl<K, V> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("subscriptions", &self.subscriptions).finish_non_exhaustive()
    }
}

#[inline]
fn report<K: Copy, V>(subscribers: Option<&Subscribers<K, V>>, found: &mut impl FnMut(K, &V)) {
    for (key, value) in subscribers.map_or(&[][..], Subscribers::as_slice) {
        found(*key, value);
    }
}

/// One topic's walk through the tree. Each level's text is looked up once, when the walk first
/// gets that far.
struct Walk<'a, K, V> {
    trie: &'a Wildcards<K, V>,
    rest: Levels<'a>,
    names: SmallVec<[LevelName; TOPIC_LEVELS_MAX]>,
}

#[derive(Clone, Copy)]
enum LevelName {
    Known(Name),
    /// No filter has a level with that text.
    Unknown,
    /// The topic has no more levels.
    End,
}

impl<K: Copy, V> Walk<'_, K, V> {
    /// `depth` levels led to `node`. The depth of recursion is that of the tree, which holds only
    /// filters of at most [`TOPIC_LEVELS_MAX`] levels.
    fn step(
        &mut self,
        node: NodeId,
        depth: usize,
        wildcards_pass_over: bool,
        found: &mut impl FnMut(K, &V),
    ) {
        if let Some(hash) = self.trie.hash(node)
            && !wildcards_pass_over
        {
            report(self.trie.value(hash).as_deref(), found);
        }
        let name = self.name(depth);
        if matches!(name, LevelName::End) {
            report(self.trie.value(node).as_deref(), found);
            return;
        }
        if let Some(plus) = self.trie.plus(node)
            && !wildcards_pass_over
        {
            self.step(plus, depth + 1, false, found);
        }
        if let LevelName::Known(name) = name
            && let Some(child) = self.trie.child(node, name)
        {
            self.step(child, depth + 1, false, found);
        }
    }

    #[inline]
    fn name(&mut self, depth: usize) -> LevelName {
        if let Some(name) = self.names.get(depth) {
            return *name;
        }
        let name = match self.rest.next() {
            None => LevelName::End,
            Some(text) => self.trie.name(text).map_or(LevelName::Unknown, LevelName::Known),
        };
        self.names.push(name);
        name
    }
}

#[cfg(test)]
mod tests;
