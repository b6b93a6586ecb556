//! The index of many rules for one subject: their patterns as trees of levels, walked by request.
//! What must not live here: what a variable's value may be, and what a decision means.

use std::num::NonZeroU32;

use smallvec::SmallVec;

use crate::limits::TOPIC_LEVELS_MAX;
use crate::topic::trie::{LevelTrie, Name, NodeId, ROOT};
use crate::topic::{Levels, TopicFilter, is_dollar, levels};

use super::pattern::{Bindings, CLIENT_ID, Pattern, USERNAME};

/// Names of variables in a tree. No topic and no pattern has a level with NUL.
const CLIENT_ID_NAME: &str = "\0clientid";
const USERNAME_NAME: &str = "\0username";

/// A rule's place in its group, plus 1: this way a node without a rule takes no more room.
type Place = NonZeroU32;

/// The patterns of rules with one effect and one action.
#[derive(Default)]
pub(super) struct Index {
    patterns: LevelTrie<Option<Place>>,
    client_id: Option<Name>,
    username: Option<Name>,
}

impl Index {
    /// Of rules with the same pattern the first is kept.
    pub(super) fn new<'a>(patterns: impl Iterator<Item = (usize, &'a Pattern)>) -> Self {
        let mut tree = LevelTrie::<Option<Place>>::default();
        for (place, pattern) in patterns {
            let node = tree.insert(pattern.levels().map(|level| match level {
                CLIENT_ID => CLIENT_ID_NAME,
                USERNAME => USERNAME_NAME,
                text => text,
            }));
            let place = u32::try_from(place + 1).ok().and_then(Place::new);
            let place = place.expect("2^32 rules fit no memory");
            tree.value_mut(node).get_or_insert(place);
        }
        let (client_id, username) = (tree.name(CLIENT_ID_NAME), tree.name(USERNAME_NAME));
        Self { patterns: tree, client_id, username }
    }

    /// The place of an allow rule whose pattern matches the topic.
    pub(super) fn allows_topic(&self, bindings: &Bindings<'_>, topic: &str) -> Option<usize> {
        let mut walk = self.walk(bindings, false, levels(topic))?;
        walk.matches(ROOT, 0).map(place)
    }

    /// The place of a deny rule whose pattern matches the topic.
    pub(super) fn denies_topic(&self, bindings: &Bindings<'_>, topic: &str) -> Option<usize> {
        let mut walk = self.walk(bindings, true, levels(topic))?;
        walk.matches(ROOT, 0).map(place)
    }

    /// The place of an allow rule whose pattern covers the filter.
    pub(super) fn allows_filter(
        &self,
        bindings: &Bindings<'_>,
        filter: &TopicFilter,
    ) -> Option<usize> {
        let mut walk = self.walk(bindings, false, filter.levels())?;
        walk.covers(ROOT, 0).map(place)
    }

    /// The place of a deny rule whose pattern intersects the filter.
    pub(super) fn denies_filter(
        &self,
        bindings: &Bindings<'_>,
        filter: &TopicFilter,
    ) -> Option<usize> {
        let mut walk = self.walk(bindings, true, filter.levels())?;
        walk.intersects(ROOT, 0, false).map(place)
    }

    /// Nothing if there are no rules.
    fn walk<'a>(
        &'a self,
        bindings: &Bindings<'a>,
        is_deny: bool,
        levels: Levels<'a>,
    ) -> Option<Walk<'a>> {
        if self.patterns.is_empty() {
            return None;
        }
        let variable = |name: Option<Name>, value: Option<&'a str>| match (name, value) {
            (Some(name), Some(value)) if is_deny => Variable::Exactly(name, value),
            (Some(name), Some(value)) => Variable::NotWiderThanPlus(name, value),
            (Some(name), None) if is_deny => Variable::Any(name),
            _ => Variable::Never,
        };
        Some(Walk {
            tree: &self.patterns,
            variables: [
                variable(self.client_id, bindings.client_id),
                variable(self.username, bindings.username),
            ],
            variable_names: [self.client_id, self.username],
            rest: levels,
            seen: SmallVec::new(),
        })
    }
}

fn place(place: Place) -> usize {
    place.get() as usize - 1
}

/// What the child of that name, a variable, stands for.
#[derive(Clone, Copy)]
enum Variable<'a> {
    /// That text.
    Exactly(Name, &'a str),
    /// That text, but not as a first level that begins with `$`.
    NotWiderThanPlus(Name, &'a str),
    /// What `+` stands for.
    Any(Name),
    /// Nothing, or no pattern has it.
    Never,
}

#[derive(Clone, Copy)]
struct Level<'a> {
    text: &'a str,
    name: Option<Name>,
}

/// One request's way through the tree. Each walk takes every branch that may lead to a rule that
/// applies and ends at the first one. The depth of recursion is that of the tree, so at most
/// [`TOPIC_LEVELS_MAX`].
struct Walk<'a> {
    tree: &'a LevelTrie<Option<Place>>,
    variables: [Variable<'a>; 2],
    variable_names: [Option<Name>; 2],
    rest: Levels<'a>,
    /// Levels that the walk got to; nothing stands for the end.
    seen: SmallVec<[Option<Level<'a>>; TOPIC_LEVELS_MAX]>,
}

impl<'a> Walk<'a> {
    fn matches(&mut self, node: NodeId, depth: usize) -> Option<Place> {
        let level = self.level(depth);
        let Some(level) = level else {
            return self.rule(node).or_else(|| self.rule(self.tree.hash(node)?));
        };
        let passes_over = depth == 0 && is_dollar(level.text);
        if !passes_over && let Some(hash) = self.tree.hash(node) {
            return self.rule(hash);
        }
        self.children_of(node, depth, level)
            .into_iter()
            .flatten()
            .find_map(|child| self.matches(child, depth + 1))
    }

    fn covers(&mut self, node: NodeId, depth: usize) -> Option<Place> {
        let Some(level) = self.level(depth) else {
            return self.rule(node).or_else(|| self.rule(self.tree.hash(node)?));
        };
        let passes_over = depth == 0 && is_dollar(level.text);
        if !passes_over && let Some(hash) = self.tree.hash(node) {
            return self.rule(hash);
        }
        match level.text {
            "#" => {
                // Where `#` stands for one level at least, `+/#` covers it: see
                // `TopicFilter::covers`.
                let is_one_level = depth == 0 || (depth == 1 && self.begins_empty());
                let plus = self.tree.plus(node).filter(|_| is_one_level)?;
                self.rule(self.tree.hash(plus)?)
            }
            "+" => self.covers(self.tree.plus(node)?, depth + 1),
            _ => self
                .children_of(node, depth, level)
                .into_iter()
                .flatten()
                .find_map(|child| self.covers(child, depth + 1)),
        }
    }

    /// `is_empty_level`: the topics in question have an empty first level and no other so far.
    fn intersects(&mut self, node: NodeId, depth: usize, is_empty_level: bool) -> Option<Place> {
        let hash = self.tree.hash(node).and_then(|hash| self.rule(hash));
        let Some(level) = self.level(depth) else {
            // The empty string is no topic.
            return self.rule(node).or(hash.filter(|_| !is_empty_level));
        };
        let passes_over = depth == 0 && is_dollar(level.text);
        if hash.is_some() && !passes_over {
            return hash;
        }
        match level.text {
            "#" if depth > 0 => {
                let own = self.rule(node).filter(|_| !is_empty_level);
                own.or_else(|| self.rule_below(node))
            }
            "#" | "+" => self.intersects_wildcard(node, depth, level.text == "#"),
            _ => {
                let is_empty_level = depth == 0 && level.text.is_empty();
                self.children_of(node, depth, level)
                    .into_iter()
                    .flatten()
                    .find_map(|child| self.intersects(child, depth + 1, is_empty_level))
            }
        }
    }

    /// The same where the request has `+`, or (`is_rest`) is `#` altogether.
    fn intersects_wildcard(&mut self, node: NodeId, depth: usize, is_rest: bool) -> Option<Place> {
        let tree = self.tree;
        for child in tree.plus(node).into_iter().chain(tree.children(node)) {
            if depth == 0 && self.is_dollar(child) {
                continue;
            }
            let found = if is_rest {
                self.rule(child).or_else(|| self.rule_below(child))
            } else {
                let is_empty_level = depth == 0 && tree.text(child) == Some("");
                self.intersects(child, depth + 1, is_empty_level)
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The children that stand for that level, which is no wildcard: itself, `+` and variables.
    #[inline]
    fn children_of(&self, node: NodeId, depth: usize, level: Level<'_>) -> [Option<NodeId>; 4] {
        let passes_over = depth == 0 && is_dollar(level.text);
        let variable = |variable| {
            let (name, is_it) = match variable {
                Variable::Exactly(name, value) => (name, value == level.text),
                Variable::NotWiderThanPlus(name, value) => {
                    (name, value == level.text && !passes_over)
                }
                Variable::Any(name) => (name, !passes_over),
                Variable::Never => return None,
            };
            if is_it { self.tree.child(node, name) } else { None }
        };
        let [first, second] = self.variables;
        [
            level.name.and_then(|name| self.tree.child(node, name)),
            variable(first),
            variable(second),
            self.tree.plus(node).filter(|_| !passes_over),
        ]
    }

    /// Whether a child of the root stands for a level that begins with `$`.
    fn is_dollar(&self, child: NodeId) -> bool {
        let is_it = |variable| match variable {
            Variable::Exactly(name, value) | Variable::NotWiderThanPlus(name, value) => {
                self.tree.is_named(child, name) && is_dollar(value)
            }
            Variable::Any(_) | Variable::Never => false,
        };
        self.tree.text(child).is_some_and(is_dollar) || self.variables.into_iter().any(is_it)
    }

    /// Some rule below the node: every leaf has one.
    fn rule_below(&self, node: NodeId) -> Option<Place> {
        let tree = self.tree;
        let mut at = node;
        loop {
            at = tree.hash(at).or_else(|| tree.plus(at)).or_else(|| tree.children(at).next())?;
            if let Some(rule) = self.rule(at) {
                return Some(rule);
            }
        }
    }

    fn begins_empty(&self) -> bool {
        matches!(self.seen.first(), Some(Some(first)) if first.text.is_empty())
    }

    #[inline]
    fn rule(&self, node: NodeId) -> Option<Place> {
        *self.tree.value(node)
    }

    #[inline]
    fn level(&mut self, depth: usize) -> Option<Level<'a>> {
        if let Some(level) = self.seen.get(depth) {
            return *level;
        }
        // Whatever the topic, it does not get at a variable by its name in the tree.
        let is_text = |name: &Name| !self.variable_names.contains(&Some(*name));
        let named = |text| self.tree.name(text).filter(is_text);
        let level = self.rest.next().map(|text| Level { text, name: named(text) });
        self.seen.push(level);
        level
    }
}
