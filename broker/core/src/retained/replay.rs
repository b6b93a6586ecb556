//! Retained messages that a filter matches, some at a time: where a replay stopped, it goes on,
//! whatever was set and cleared meanwhile.
//!
//! Siblings stand in the order in which they were made, and each place knows its age. So the way
//! to the last place that was visited says what is still to come: where that place is gone, the
//! first one that is younger. What was made after the replay began is left out, as its subscriber
//! gets it as it is published.
//! What must not live here: how much is taken at a time, and what becomes of it.

use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::Retained;
use crate::limits::TOPIC_LEVELS_MAX;
use crate::message::{Message, SharedMessage};
use crate::time::Millis;
use crate::topic::trie::{Name, NodeId, ROOT};
use crate::topic::{TopicFilter, is_dollar};

/// Where a replay stopped.
#[derive(Clone, Debug)]
pub struct Cursor {
    /// The way to the last place that was visited, below the root.
    path: Vec<Step>,
    /// Whether that place was done with.
    is_done: bool,
    /// Places that are younger are left out.
    age_max: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Step {
    node: NodeId,
    age: u64,
}

/// What becomes of a message that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It was taken; the next one, please.
    Taken,
    /// It was not taken; it comes first when the replay goes on.
    None,
}

/// A filter's levels with their texts looked up.
type Wanted = SmallVec<[WantedLevel; TOPIC_LEVELS_MAX]>;

#[derive(Clone, Copy)]
enum WantedLevel {
    Named(Name),
    Any,
    Rest,
}

impl Retained {
    /// The beginning of a replay of what is retained by now.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        Cursor { path: Vec::new(), is_done: true, age_max: self.age }
    }

    /// Calls `found` with every message whose topic the filter matches and that is not expired.
    pub fn for_each_match(
        &self,
        filter: &TopicFilter,
        now: Millis,
        mut found: impl FnMut(&SharedMessage),
    ) {
        let found = |message: &SharedMessage| {
            found(message);
            Room::Taken
        };
        let mut all = usize::MAX;
        self.replay(filter, now, &mut self.cursor(), &mut all, found);
    }

    /// Goes on with a replay, through `places_left` places at most; whether it is complete.
    pub fn replay(
        &self,
        filter: &TopicFilter,
        now: Millis,
        cursor: &mut Cursor,
        places_left: &mut usize,
        found: impl FnMut(&SharedMessage) -> Room,
    ) -> bool {
        let mut wanted = Wanted::new();
        for text in filter.levels() {
            wanted.push(match text {
                "+" => WantedLevel::Any,
                "#" => WantedLevel::Rest,
                text => match self.topics.name(text) {
                    Some(name) => WantedLevel::Named(name),
                    None => return true,
                },
            });
        }
        let from = std::mem::take(&mut cursor.path);
        let from = (!from.is_empty()).then_some(from);
        let mut walk = Walk { retained: self, now, cursor, places_left, found };
        let visited = walk.visit(ROOT, &wanted, from.as_deref());
        visited.is_continue()
    }
}

struct Walk<'a, F> {
    retained: &'a Retained,
    now: Millis,
    cursor: &'a mut Cursor,
    places_left: &'a mut usize,
    found: F,
}

impl<F: FnMut(&SharedMessage) -> Room> Walk<'_, F> {
    /// A place and all below it; `from`: the rest of the way to the place that was visited last,
    /// empty for that place itself.
    fn visit(
        &mut self,
        node: NodeId,
        wanted: &[WantedLevel],
        from: Option<&[Step]>,
    ) -> ControlFlow<()> {
        let is_new = match from {
            None => true,
            Some([]) => !self.cursor.is_done,
            Some(_) => false,
        };
        if is_new {
            if matches!(wanted, [] | [WantedLevel::Rest, ..]) {
                self.report(node)?;
            }
            self.leave_off(node)?;
        }
        let from = from.filter(|from| !from.is_empty());
        match wanted {
            [] => ControlFlow::Continue(()),
            [WantedLevel::Named(name), rest @ ..] => {
                let Some(child) = self.retained.topics.child(node, *name) else {
                    return ControlFlow::Continue(());
                };
                let step = self.step(child);
                match from {
                    Some([last, ..]) if *last != step => ControlFlow::Continue(()), // younger
                    Some([_, below @ ..]) => self.enter(step, rest, Some(below)),
                    Some([]) | None => self.enter(step, rest, None),
                }
            }
            [WantedLevel::Any, rest @ ..] => self.each_child(node, rest, from),
            [WantedLevel::Rest, ..] => self.each_child(node, wanted, from),
        }
    }

    fn each_child(
        &mut self,
        parent: NodeId,
        wanted: &[WantedLevel],
        from: Option<&[Step]>,
    ) -> ControlFlow<()> {
        let topics = &self.retained.topics;
        let mut below = None;
        let mut next = topics.children(parent).next();
        if let Some([last, rest @ ..]) = from {
            if topics.is_child(parent, last.node) && topics.value(last.node).age == last.age {
                (next, below) = (Some(last.node), Some(rest));
            } else {
                next = topics.children(parent).find(|child| topics.value(*child).age > last.age);
            }
        }
        while let Some(child) = next {
            let step = self.step(child);
            if step.age > self.cursor.age_max {
                break; // and so are all after it
            }
            // [MQTT-4.7.2-1]
            let is_dollar = || topics.text(child).is_some_and(is_dollar);
            if parent != ROOT || !is_dollar() {
                self.enter(step, wanted, below)?;
            }
            below = None;
            next = topics.sibling(child);
        }
        ControlFlow::Continue(())
    }

    fn enter(
        &mut self,
        step: Step,
        wanted: &[WantedLevel],
        from: Option<&[Step]>,
    ) -> ControlFlow<()> {
        if step.age > self.cursor.age_max {
            return ControlFlow::Continue(());
        }
        self.cursor.path.push(step);
        self.visit(step.node, wanted, from)?;
        self.cursor.path.pop();
        ControlFlow::Continue(())
    }

    fn report(&mut self, node: NodeId) -> ControlFlow<()> {
        if let Some(message) = &self.retained.topics.value(node).message
            && !is_expired(message, self.now)
        {
            match (self.found)(message) {
                Room::Taken => {}
                Room::None => {
                    self.cursor.is_done = false;
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Stops behind a place, if enough of them were visited. The root is none to stop at: a cursor
    /// there is one that has not begun.
    fn leave_off(&mut self, node: NodeId) -> ControlFlow<()> {
        self.cursor.is_done = true;
        *self.places_left = self.places_left.saturating_sub(1);
        let may_stop = *self.places_left == 0 && node != ROOT;
        if may_stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn step(&self, node: NodeId) -> Step {
        Step { node, age: self.retained.topics.value(node).age }
    }
}

fn is_expired(message: &Message, now: Millis) -> bool {
    message.expires_at != Millis::NEVER && message.expires_at <= now
}
