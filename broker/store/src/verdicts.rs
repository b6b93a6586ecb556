//! A bounded memory of verdicts that forgets what was not asked for longest.
//! What must not live here: what the keys are made of.

use std::collections::HashSet;

/// A keyed digest of everything that a verdict depends on.
pub(crate) type Key = [u8; 32];

/// A set of at most `keys_max` keys in two generations: when the young one is full it becomes the
/// old one, and what was old and not asked for is forgotten. No clock, no list, constant time.
pub(crate) struct Remembered {
    young: HashSet<Key>,
    old: HashSet<Key>,
    generation_max: usize,
}

impl Remembered {
    pub(crate) fn new(keys_max: usize) -> Self {
        Self { young: HashSet::new(), old: HashSet::new(), generation_max: (keys_max / 2).max(1) }
    }

    pub(crate) fn insert(&mut self, key: Key) {
        if self.young.len() >= self.generation_max && !self.young.contains(&key) {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(key);
    }

    pub(crate) fn contains(&mut self, key: &Key) -> bool {
        if self.young.contains(key) {
            return true;
        }
        // Asked for: it moves up and survives the next change of generation.
        let found = self.old.remove(key);
        if found {
            self.insert(*key);
        }
        found
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Remembered;

    fn key(number: u32) -> [u8; 32] {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let mut remembered = Remembered::new(10);
        for number in 0..1000 {
            remembered.insert(key(number));
            remembered.contains(&key(number / 2));
            assert!(remembered.len() <= 10);
        }
        assert!(remembered.contains(&key(999)));
        assert!(!remembered.contains(&key(1)));
    }

    #[test]
    fn what_is_asked_for_again_and_again_stays() {
        let mut remembered = Remembered::new(10);
        remembered.insert(key(0));
        for number in 1..1000 {
            remembered.insert(key(number));
            assert!(remembered.contains(&key(0)), "forgotten at {number}");
        }
    }
}
