//! Topic rewrite: what clients name in one way is published and subscribed in another.
//! What must not live here: when a name is rewritten, and whether it may be used at all.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::topic::{TopicError, TopicFilter, check_topic_name, is_dollar, levels};

/// One rule: names that `from` matches become `to`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rewrite {
    from: TopicFilter,
    to: Box<[Part]>,
    /// Whether it is for Topic Names of PUBLISH and Will.
    pub publish: bool,
    /// Whether it is for Topic Filters of SUBSCRIBE and UNSUBSCRIBE.
    pub subscribe: bool,
}

/// One level of what a name becomes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Level(Box<str>),
    /// What the wildcard of that number stood for; `#` may have stood for no level, or several.
    Captured(usize),
}

/// Why a rule is not usable. The fault is the operator's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RewriteError {
    /// `from` is no Topic Filter.
    #[error("`from` is not a topic filter: {0}")]
    From(TopicError),
    /// `from` has a share name.
    #[error("`from` has a share name: write the filter without `$share/name/`, shared ones follow")]
    Shared,
    /// `to` is no Topic Name.
    #[error("`to` is not a topic: {0}")]
    To(TopicError),
    /// A `$` that is no number of a wildcard.
    #[error(
        "level {level} of `to`: `$1` to `$9` stand for the wildcards of `from`, as whole levels; it has {wildcards}"
    )]
    Capture {
        /// Level of `to`, from 1.
        level: usize,
        /// Wildcards of `from`.
        wildcards: usize,
    },
}

type Captures<'t> = SmallVec<[Option<&'t str>; 4]>;

impl Rewrite {
    /// A rule for both directions.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn new(from: &str, to: &str) -> Result<Self, RewriteError> {
        let from = TopicFilter::parse(from).map_err(RewriteError::From)?;
        if from.share_group().is_some() {
            return Err(RewriteError::Shared);
        }
        check_topic_name(to).map_err(RewriteError::To)?;
        let wildcards = from.levels().filter(|level| matches!(*level, "+" | "#")).count();
        let parts = (1..).zip(levels(to)).map(|(level, text)| {
            let Some(number) = text.strip_prefix('$') else {
                return Ok(Part::Level(text.into()));
            };
            match number.parse::<usize>() {
                Ok(number @ 1..=9) if number <= wildcards => Ok(Part::Captured(number - 1)),
                _ => Err(RewriteError::Capture { level, wildcards }),
            }
        });
        let to = parts.collect::<Result<_, _>>()?;
        Ok(Self { from, to, publish: true, subscribe: true })
    }

    /// What the wildcards of `from` stand for, if the name is one of those. In a filter `+` is a
    /// level as any other; `#`, which is many, is only what a `#` stands for.
    fn captures<'t>(&self, name: &'t str) -> Option<Captures<'t>> {
        let (mut wanted, mut given) = (self.from.levels(), levels(name));
        let mut captures = Captures::new();
        let mut passes_over = is_dollar(name); // [MQTT-4.7.2-1]
        loop {
            let wanted = wanted.next();
            if wanted == Some("#") {
                captures.push(given.rest());
                return (!passes_over).then_some(captures);
            }
            match (wanted, given.next()) {
                (Some("+"), Some(level)) if !passes_over && level != "#" => {
                    captures.push(Some(level));
                }
                (Some(wanted), Some(level)) if wanted == level => {}
                (None, None) => return Some(captures),
                _ => return None,
            }
            passes_over = false;
        }
    }

    fn apply(&self, name: &str) -> Option<String> {
        let captures = self.captures(name)?;
        let parts = self.to.iter().filter_map(|part| match part {
            Part::Level(level) => Some(&**level),
            Part::Captured(number) => captures.get(*number).copied().flatten(),
        });
        Some(parts.collect::<Vec<_>>().join("/"))
    }
}

/// All rules, in order. The first one that matches a name rewrites it, once: what it becomes is
/// not looked at again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewrites {
    publish: Box<[Rewrite]>,
    subscribe: Box<[Rewrite]>,
}

impl Rewrites {
    /// Those rules.
    #[must_use]
    pub fn new(rules: &[Rewrite]) -> Self {
        let only = |wanted: fn(&Rewrite) -> bool| {
            rules.iter().filter(|rule| wanted(rule)).cloned().collect()
        };
        Self { publish: only(|rule| rule.publish), subscribe: only(|rule| rule.subscribe) }
    }

    /// What a Topic Name becomes. One that is not valid stays as it is.
    #[must_use]
    pub fn topic<'t>(&self, topic: &'t str) -> Cow<'t, str> {
        match self.publish.iter().find_map(|rule| rule.apply(topic)) {
            Some(new) if check_topic_name(topic).is_ok() => Cow::Owned(new),
            Some(_) | None => Cow::Borrowed(topic),
        }
    }

    /// What a Topic Filter becomes; a share name stays before it. One that is not valid stays as
    /// it is.
    #[must_use]
    pub fn filter<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.subscribe.is_empty() {
            return Cow::Borrowed(text);
        }
        let Ok(filter) = TopicFilter::parse(text) else {
            return Cow::Borrowed(text);
        };
        let name = filter.filter();
        match self.subscribe.iter().find_map(|rule| rule.apply(name)) {
            Some(new) => {
                let share = &text[..text.len() - name.len()];
                Cow::Owned([share, new.as_str()].concat())
            }
            None => Cow::Borrowed(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rewrite, RewriteError, Rewrites};

    fn rules(rules: &[(&str, &str)]) -> Rewrites {
        let rules: Vec<_> =
            rules.iter().map(|(from, to)| Rewrite::new(from, to).unwrap()).collect();
        Rewrites::new(&rules)
    }

    #[track_caller]
    fn check(from: &str, to: &str, name: &str, expected: &str) {
        let rules = rules(&[(from, to)]);
        assert_eq!(rules.topic(name), expected);
        assert_eq!(rules.filter(name), expected);
    }

    #[test]
    fn wildcards_are_put_where_their_numbers_stand() {
        check("old/+/data", "new/$1", "old/7/data", "new/7");
        check("old/+/data", "new/$1", "old/7/other", "old/7/other");
        check("old/+/data", "new/$1", "old/7/data/more", "old/7/data/more");
        check("+/+/x", "$2/$1", "a/b/x", "b/a");
        check("+/#", "$2/of/$1", "a/b/c", "b/c/of/a");
        check("old/#", "new/$1", "old/a//b", "new/a//b");
        check("old/#", "new/$1", "old/", "new/");
        check("old/#", "new/$1", "old", "new");
        check("old/+", "new", "old/a", "new");
        check("+/a", "x/$1", "/a", "x/");
        check("#", "all/$1", "$SYS/a", "$SYS/a");
        check("+/a", "all/$1", "$x/a", "$x/a");
        check("$x/+", "y/$1", "$x/a", "y/a");
    }

    #[test]
    fn the_first_rule_that_matches_rewrites_once() {
        let rules = rules(&[("a/+", "b/$1"), ("a/#", "c/$1"), ("b/+", "a/$1")]);
        assert_eq!(rules.topic("a/1"), "b/1");
        assert_eq!(rules.topic("a/1/2"), "c/1/2");
        assert_eq!(rules.topic("b/1"), "a/1");
    }

    #[test]
    fn a_filter_keeps_its_wildcards_and_its_share_name() {
        let rules = rules(&[("old/+/data", "new/$1"), ("logs/#", "log/$1")]);
        assert_eq!(rules.filter("old/+/data"), "new/+");
        assert_eq!(rules.filter("old/#"), "old/#", "more than one level");
        assert_eq!(rules.filter("logs/+/#"), "log/+/#");
        assert_eq!(rules.filter("$share/group/logs/#"), "$share/group/log/#");
    }

    /// What a client may not name it may not have rewritten into something that it may.
    #[test]
    fn what_is_not_valid_stays_so() {
        let rules = rules(&[("a/#", "b")]);
        for topic in ["a/#", "a/+", "a/\0"] {
            assert_eq!(rules.topic(topic), topic);
        }
        assert_eq!(rules.filter("a/#/c"), "a/#/c");
    }

    #[test]
    fn a_rule_is_for_the_side_that_it_names() {
        let rule = Rewrite::new("a", "b").unwrap();
        let publish = Rewrites::new(&[Rewrite { subscribe: false, ..rule.clone() }]);
        assert_eq!((&*publish.topic("a"), &*publish.filter("a")), ("b", "a"));
        let subscribe = Rewrites::new(&[Rewrite { publish: false, ..rule }]);
        assert_eq!((&*subscribe.topic("a"), &*subscribe.filter("a")), ("a", "b"));
    }

    #[test]
    fn a_rule_that_cannot_work_is_refused() {
        use RewriteError::{Capture, From, Shared, To};
        let error = |from, to| Rewrite::new(from, to).unwrap_err();
        assert!(matches!(error("a/#/b", "c"), From(_)));
        assert!(matches!(error("$share/g/a", "c"), Shared));
        assert!(matches!(error("a", "c/+"), To(_)));
        assert_eq!(error("a/+", "c/$2"), Capture { level: 2, wildcards: 1 });
        assert_eq!(error("a/+", "$x"), Capture { level: 1, wildcards: 1 });
        assert_eq!(error("a/+", "$0"), Capture { level: 1, wildcards: 1 });
    }
}
