//! Topic Aliases towards one client: which topics are sent by a number [MQTT 3.3.2.3.4].
//! What must not live here: bytes, and what a client's own aliases stand for (the core).

use std::hash::{DefaultHasher, Hash, Hasher};

/// A shorter Topic Name gets no alias: the property that carries one takes three bytes itself.
const TOPIC_BYTES_MIN: usize = 8;

/// A longer one gets none: it would be held in memory for as long as the connection.
const TOPIC_BYTES_MAX: usize = 512;

/// Topics without alias that are remembered. One gets its alias when it comes again while it is:
/// who is sent many topics in turn pays neither for aliases that are never used nor for memory.
const SEEN: usize = 16;

/// How a PUBLISH names its topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Naming {
    /// By its name.
    Name,
    /// By its name, with an alias for those that follow.
    NameAndAlias(u16),
    /// By an alias that was sent with the name before.
    Alias(u16),
}

/// The aliases of one connection. It begins without any [MQTT-3.3.2-7].
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    /// The alias is the place plus one.
    entries: Vec<Entry>,
    /// Counts what was sent, so that the entry can be told that was not used for longest.
    clock: u32,
    seen: [u32; SEEN],
    next_seen: usize,
}

#[derive(Debug)]
struct Entry {
    topic: String,
    used: u32,
}

/// Whether a topic may have an alias at all.
pub(crate) const fn is_worth_it(topic: &str) -> bool {
    TOPIC_BYTES_MIN <= topic.len() && topic.len() <= TOPIC_BYTES_MAX
}

impl Aliases {
    /// How the PUBLISH that is sent next names its topic, with aliases from 1 to `most`.
    pub(crate) fn naming(&mut self, topic: &str, most: u16) -> Naming {
        self.clock = self.clock.wrapping_add(1);
        let clock = self.clock;
        if let Some(place) = self.entries.iter().position(|entry| entry.topic == topic) {
            self.entries[place].used = clock;
            return Naming::Alias(alias_of(place));
        }
        if !self.is_seen_again(topic) {
            return Naming::Name;
        }
        if self.entries.len() < usize::from(most) {
            self.entries.push(Entry { topic: topic.to_owned(), used: clock });
            return Naming::NameAndAlias(alias_of(self.entries.len() - 1));
        }
        let entries = self.entries.iter_mut().enumerate();
        let Some((place, oldest)) = entries.max_by_key(|(_, entry)| clock.wrapping_sub(entry.used))
        else {
            return Naming::Name;
        };
        oldest.topic.clear();
        oldest.topic.push_str(topic);
        oldest.used = clock;
        Naming::NameAndAlias(alias_of(place))
    }

    fn is_seen_again(&mut self, topic: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is one too")]
        let hash = hasher.finish() as u32;
        if let Some(place) = self.seen.iter().position(|seen| *seen == hash) {
            self.seen[place] = 0;
            return true;
        }
        self.seen[self.next_seen] = hash;
        self.next_seen = (self.next_seen + 1) % SEEN;
        false
    }
}

fn alias_of(place: usize) -> u16 {
    u16::try_from(place + 1).expect("there are at most 65,535 aliases")
}

#[cfg(test)]
mod tests {
    use super::{Aliases, Naming, TOPIC_BYTES_MAX, is_worth_it};

    /// The names of the topics as they are sent, and what each is named by.
    fn sent<'a>(most: u16, topics: impl IntoIterator<Item = &'a str>) -> Vec<Naming> {
        let mut aliases = Aliases::default();
        topics.into_iter().map(|topic| aliases.naming(topic, most)).collect()
    }

    #[test]
    fn a_topic_that_comes_again_gets_an_alias_and_then_comes_by_it() {
        use Naming::{Alias, Name, NameAndAlias};
        assert_eq!(sent(2, ["a", "a", "a", "a"]), [Name, NameAndAlias(1), Alias(1), Alias(1)]);
        let both = sent(2, ["a", "b", "a", "b", "b", "a"]);
        assert_eq!(both, [Name, Name, NameAndAlias(1), NameAndAlias(2), Alias(2), Alias(1)]);
    }

    #[test]
    fn the_alias_that_was_not_used_for_longest_is_given_to_another_topic() {
        use Naming::{Alias, Name, NameAndAlias};
        let third = sent(2, ["a", "a", "b", "b", "a", "c", "c", "b", "a", "c"]);
        let expected = [
            Name,
            NameAndAlias(1),
            Name,
            NameAndAlias(2),
            Alias(1),
            Name,
            NameAndAlias(2),
            Name,
            Alias(1),
            Alias(2),
        ];
        assert_eq!(third, expected);
    }

    #[test]
    fn many_topics_in_turn_are_neither_given_aliases_nor_kept() {
        let topics: Vec<String> = (0..100).map(|number| format!("topic/{number}")).collect();
        let mut aliases = Aliases::default();
        for topic in topics.iter().cycle().take(1000) {
            assert_eq!(aliases.naming(topic, 16), Naming::Name);
        }
        assert!(aliases.entries.is_empty());
    }

    /// A client that only knows what it was sent finds every topic [MQTT-3.1.2-26].
    #[test]
    fn a_client_can_always_tell_the_topic() {
        let topics: Vec<String> = (0..40).map(|number| format!("topic/{number}")).collect();
        for most in [1_u16, 2, 7, 16] {
            let mut aliases = Aliases::default();
            let mut known = vec![String::new(); usize::from(most) + 1];
            let (mut random, mut by_alias) = (u64::from(most), 0);
            for _ in 0..10_000 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let dice = usize::try_from(random >> 40).unwrap();
                let topic = &topics[if dice % 3 == 0 { dice % 40 } else { dice % 5 }];
                match aliases.naming(topic, most) {
                    Naming::Name => {}
                    Naming::NameAndAlias(alias) => known[usize::from(alias)].clone_from(topic),
                    Naming::Alias(alias) => {
                        assert_eq!(known[usize::from(alias)], *topic);
                        by_alias += 1;
                    }
                }
            }
            assert!(by_alias > 500, "{by_alias} of 10,000 with {most} aliases");
        }
    }

    #[test]
    fn short_and_very_long_topics_get_none() {
        assert!(!is_worth_it("a/b"));
        assert!(is_worth_it("sensors/1"));
        assert!(!is_worth_it(&"x".repeat(TOPIC_BYTES_MAX + 1)));
    }
}
