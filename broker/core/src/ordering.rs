//! The ordering line of a connection: what entered first leaves first, whatever each step took.
//! What must not live here: what the entries are, and what happens when they leave.

use std::collections::VecDeque;

/// Entries in the order in which they came. Each is first *decided* (hooks have spoken), then
/// *released* (committed, delivered, acknowledged); both happen strictly in order, and later
/// entries may be decided while earlier ones still wait for their commit.
#[derive(Debug)]
pub struct Line<T> {
    entries: VecDeque<T>,
    /// Number of the front entry.
    first: u64,
    decided: usize,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new(), first: 0, decided: 0 }
    }
}

impl<T> Line<T> {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number that the next entry gets.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Appends an entry; the number that it is known by.
    pub fn push(&mut self, entry: T) -> u64 {
        self.entries.push_back(entry);
        self.end() - 1
    }

    /// The oldest entry that is not decided yet.
    pub fn next_undecided(&mut self) -> Option<(u64, &mut T)> {
        let number = self.first + self.decided as u64;
        self.entries.get_mut(self.decided).map(|entry| (number, entry))
    }

    /// Marks the oldest undecided entry as decided.
    pub fn decide(&mut self) {
        debug_assert!(self.decided < self.entries.len(), "nothing is undecided");
        self.decided += 1;
    }

    /// The oldest entry, if it is decided.
    pub fn front(&mut self) -> Option<&mut T> {
        if self.decided == 0 { None } else { self.entries.front_mut() }
    }

    /// Takes the oldest entry out, if it is decided.
    pub fn release(&mut self) -> Option<T> {
        if self.decided == 0 {
            return None;
        }
        self.decided -= 1;
        self.first += 1;
        let entry = self.entries.pop_front();
        if self.entries.is_empty() {
            self.entries.shrink_to(8);
        }
        entry
    }

    /// The entry of that number, if it still waits.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    /// All entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::Line;

    #[test]
    fn an_entry_leaves_only_when_it_and_all_before_it_are_decided() {
        let mut line = Line::default();
        assert_eq!((line.push('a'), line.push('b'), line.push('c')), (0, 1, 2));
        assert_eq!(line.release(), None);
        assert_eq!(line.next_undecided(), Some((0, &mut 'a')));
        line.decide();
        line.decide();
        assert_eq!(line.next_undecided(), Some((2, &mut 'c')));
        assert_eq!(line.release(), Some('a'));
        assert_eq!(line.next_undecided(), Some((2, &mut 'c')));
        assert_eq!(line.release(), Some('b'));
        assert_eq!(line.release(), None);
        assert_eq!(line.len(), 1);
    }
}
