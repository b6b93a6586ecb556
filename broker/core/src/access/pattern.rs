//! The pattern of a rule: a Topic Filter in which variables of the requester may stand.
//! What must not live here: rules, and which of them decides.

use std::fmt;

use crate::topic::{self, Levels, TopicError, TopicFilter, is_dollar};

pub(super) const CLIENT_ID: &str = "${clientid}";
pub(super) const USERNAME: &str = "${username}";

/// What a rule is about: a Topic Filter in which `${clientid}` and `${username}` may stand, as
/// whole levels only.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    filter: TopicFilter,
    has_client_id: bool,
    has_username: bool,
}

/// Why a text is no pattern. The fault is that of whoever wrote the rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PatternError {
    /// It is no Topic Filter.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// It has a share name.
    #[error("a rule is about topics, shared or not: write the filter without `$share/name/`")]
    Shared,
    /// `${` in a level that is not exactly a variable.
    #[error(
        "level {level}: only `${{clientid}}` and `${{username}}` are variables, each as a whole \
         level"
    )]
    Variable {
        /// Level, from 1.
        level: usize,
    },
}

impl Pattern {
    /// Parses a rule's pattern.
    ///
    /// # Errors
    /// What is wrong with it first.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let filter = TopicFilter::parse(text)?;
        if filter.share_group().is_some() {
            return Err(PatternError::Shared);
        }
        let (mut has_client_id, mut has_username) = (false, false);
        for (level, text) in (1..).zip(filter.levels()) {
            match text {
                CLIENT_ID => has_client_id = true,
                USERNAME => has_username = true,
                text if text.contains("${") => return Err(PatternError::Variable { level }),
                _ => {}
            }
        }
        Ok(Self { filter, has_client_id, has_username })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.filter.as_str()
    }

    pub(super) fn levels(&self) -> Levels<'_> {
        self.filter.levels()
    }

    /// Whether an allow rule with this pattern lets that requester publish to the topic.
    pub(super) fn allows_topic(&self, bindings: &Bindings<'_>, topic: &str) -> bool {
        if !self.has_variables() {
            return self.filter.matches(topic);
        }
        self.is_bound_for_allow(bindings) && topic::matches(self.bound(bindings), topic)
    }

    /// Whether a deny rule with this pattern forbids that requester to publish to the topic.
    pub(super) fn denies_topic(&self, bindings: &Bindings<'_>, topic: &str) -> bool {
        if !self.has_variables() {
            return self.filter.matches(topic);
        }
        topic::matches(self.bound(bindings), topic)
    }

    /// Whether an allow rule with this pattern lets that requester subscribe with the filter: it
    /// covers all of it.
    pub(super) fn allows_filter(&self, bindings: &Bindings<'_>, filter: &TopicFilter) -> bool {
        if !self.has_variables() {
            return self.filter.covers(filter);
        }
        self.is_bound_for_allow(bindings) && topic::covers(self.bound(bindings), filter.levels())
    }

    /// Whether a deny rule with this pattern forbids that requester to subscribe with the filter:
    /// some topic is in both.
    pub(super) fn denies_filter(&self, bindings: &Bindings<'_>, filter: &TopicFilter) -> bool {
        if !self.has_variables() {
            return self.filter.intersects(filter);
        }
        topic::intersects(self.bound(bindings), filter.levels())
    }

    /// Whether every variable has a value with which an allow rule may match.
    pub(super) fn is_bound_for_allow(&self, bindings: &Bindings<'_>) -> bool {
        let first_is_dollar = match self.levels().next() {
            Some(CLIENT_ID) => bindings.client_id.is_some_and(is_dollar),
            Some(USERNAME) => bindings.username.is_some_and(is_dollar),
            _ => false,
        };
        !first_is_dollar
            && (!self.has_client_id || bindings.client_id.is_some())
            && (!self.has_username || bindings.username.is_some())
    }

    fn has_variables(&self) -> bool {
        self.has_client_id || self.has_username
    }

    fn bound<'a>(&'a self, bindings: &'a Bindings<'a>) -> impl Iterator<Item = &'a str> {
        self.levels().map(|level| match level {
            CLIENT_ID => bindings.client_id.unwrap_or("+"),
            USERNAME => bindings.username.unwrap_or("+"),
            text => text,
        })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.as_str())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The variables' values, where they can stand for a level: not empty, no `+`, `#`, `/`, NUL.
pub(super) struct Bindings<'a> {
    pub(super) client_id: Option<&'a str>,
    pub(super) username: Option<&'a str>,
}

impl<'a> Bindings<'a> {
    pub(super) fn new(client_id: &'a str, username: Option<&'a str>) -> Self {
        Self {
            client_id: Some(client_id).filter(|value| is_level(value)),
            username: username.filter(|value| is_level(value)),
        }
    }
}

fn is_level(value: &str) -> bool {
    !value.is_empty() && !value.bytes().any(|byte| matches!(byte, b'+' | b'#' | b'/' | 0))
}
