//! The subscribers of one Topic Filter: a short list while they are few, an indexed one when many.
//! What must not live here: filters and topics.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use smallvec::SmallVec;

/// Above that many subscribers a list gets an index, so that adding the hundred thousandth to one
/// filter costs as much as adding the tenth.
const UNINDEXED_MAX: usize = 16;

#[derive(Debug)]
pub(super) enum Subscribers<K, V> {
    Few(SmallVec<[(K, V); 1]>),
    Many(Box<Indexed<K, V>>),
}

#[derive(Debug)]
pub(super) struct Indexed<K, V> {
    entries: Vec<(K, V)>,
    /// Places in `entries`, by key.
    places: HashTable<u32>,
    hasher: RandomState,
}

impl<K, V> Default for Subscribers<K, V> {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl<K, V> Subscribers<K, V> {
    #[inline]
    pub(super) fn as_slice(&self) -> &[(K, V)] {
        match self {
            Self::Few(entries) => entries,
            Self::Many(indexed) => &indexed.entries,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

impl<K: Copy + Eq + Hash, V> Subscribers<K, V> {
    pub(super) fn get(&self, key: K) -> Option<&V> {
        let entries = self.as_slice();
        let place = match self {
            Self::Few(_) => entries.iter().position(|(there, _)| *there == key)?,
            Self::Many(indexed) => indexed.place(key)?,
        };
        Some(&entries[place].1)
    }

    /// Gives the value that was there for the key.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self {
            Self::Few(entries) => {
                if let Some((_, old)) = entries.iter_mut().find(|(there, _)| *there == key) {
                    return Some(std::mem::replace(old, value));
                }
                entries.push((key, value));
                if entries.len() > UNINDEXED_MAX {
                    let entries = std::mem::take(entries).into_vec();
                    *self = Self::Many(Box::new(Indexed::new(entries)));
                }
                None
            }
            Self::Many(indexed) => indexed.insert(key, value),
        }
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        match self {
            Self::Few(entries) => {
                let place = entries.iter().position(|(there, _)| *there == key)?;
                let (_, value) = entries.swap_remove(place);
                // A list of one lies in the entry itself.
                if entries.len() == 1 {
                    entries.shrink_to_fit();
                }
                Some(value)
            }
            Self::Many(indexed) => {
                let value = indexed.remove(key)?;
                if indexed.entries.len() <= UNINDEXED_MAX / 2 {
                    *self = Self::Few(std::mem::take(&mut indexed.entries).into_iter().collect());
                }
                Some(value)
            }
        }
    }
}

impl<K: Copy + Eq + Hash, V> Indexed<K, V> {
    fn new(entries: Vec<(K, V)>) -> Self {
        let mut indexed =
            Self { entries, places: HashTable::new(), hasher: RandomState::default() };
        for place in 0..indexed.entries.len() {
            indexed.index(place);
        }
        indexed
    }

    fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(place) = self.place(key) {
            return Some(std::mem::replace(&mut self.entries[place].1, value));
        }
        self.entries.push((key, value));
        self.index(self.entries.len() - 1);
        None
    }

    fn remove(&mut self, key: K) -> Option<V> {
        let place = self.unindex(key)?;
        // The last entry moves into the gap, so its place changes.
        let last = self.entries.len() - 1;
        if place != last {
            self.unindex(self.entries[last].0);
        }
        let (_, value) = self.entries.swap_remove(place);
        if place != last {
            self.index(place);
        }
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
        }
        Some(value)
    }

    fn place(&self, key: K) -> Option<usize> {
        let is_it = |&place: &u32| self.entries[place as usize].0 == key;
        self.places.find(self.hasher.hash_one(key), is_it).map(|&place| place as usize)
    }

    fn index(&mut self, place: usize) {
        let Self { entries, places, hasher } = self;
        let hash = hasher.hash_one(entries[place].0);
        let place = u32::try_from(place).expect("2^32 subscribers fit no memory");
        places.insert_unique(hash, place, |&other| hasher.hash_one(entries[other as usize].0));
    }

    fn unindex(&mut self, key: K) -> Option<usize> {
        let Self { entries, places, hasher } = self;
        let is_it = |&place: &u32| entries[place as usize].0 == key;
        let (place, _) = places.find_entry(hasher.hash_one(key), is_it).ok()?.remove();
        Some(place as usize)
    }
}
