//! Topic Names and Topic Filters: their syntax, and which filter matches, covers or intersects what.
//! What must not live here: anything that stores subscriptions or decides about access.

use std::fmt;
use std::sync::Arc;

use crate::limits::{TOPIC_BYTES_MAX, TOPIC_LEVELS_MAX};

pub(crate) mod trie;

/// What begins the Topic Filter of a Shared Subscription [MQTT-4.8.2-1].
const SHARE_PREFIX: &str = "$share/";

/// Why a string is not a Topic Name or a Topic Filter. Levels are counted from 1, in the string as
/// it was sent; the fault is always the peer's (or that of whoever wrote a configured filter).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum TopicError {
    /// [MQTT-4.7.3-1]
    #[error("a topic needs at least one character")]
    Empty,
    /// [MQTT-4.7.3-3]
    #[error("{length} bytes: a topic has at most {TOPIC_BYTES_MAX}")]
    TooLong {
        /// Bytes it has.
        length: usize,
    },
    /// [MQTT-4.7.3-2]
    #[error("level {level} contains the null character, which no topic may")]
    Nul {
        /// Level, from 1.
        level: usize,
    },
    /// A bound of this broker.
    #[error("more than {TOPIC_LEVELS_MAX} levels")]
    TooManyLevels,
    /// A Topic Name with a wildcard [MQTT-4.7.1-1].
    #[error("level {level} contains `{wildcard}`: wildcards are for subscriptions only")]
    Wildcard {
        /// Level, from 1.
        level: usize,
        /// `+` or `#`.
        wildcard: char,
    },
    /// `+` or `#` that shares its level with other characters [MQTT-4.7.1-1, MQTT-4.7.1-2].
    #[error("level {level}: `{wildcard}` must be the whole level")]
    WildcardPlacement {
        /// Level, from 1.
        level: usize,
        /// `+` or `#`.
        wildcard: char,
    },
    /// `#` before the last level [MQTT-4.7.1-1].
    #[error("level {level}: `#` must be the last level")]
    HashNotLast {
        /// Level, from 1.
        level: usize,
    },
    /// `$share//filter` [MQTT-4.8.2-1].
    #[error("level 2: the share name after `$share/` is empty")]
    ShareNameEmpty,
    /// `$share/g+/filter` [MQTT-4.8.2-2].
    #[error("level 2: the share name contains `{wildcard}`")]
    ShareNameWildcard {
        /// `+` or `#`.
        wildcard: char,
    },
    /// `$share/g` or `$share/g/` [MQTT-4.8.2-2].
    #[error("level 3: a topic filter must follow the share name")]
    ShareFilterMissing,
}

/// Checks a Topic Name as it stands in PUBLISH. Allocates nothing.
///
/// # Errors
/// What is wrong with it first, from the left.
pub fn check_topic_name(topic: &str) -> Result<(), TopicError> {
    check_length(topic)?;
    let mut level = 1;
    for &byte in topic.as_bytes() {
        match byte {
            b'/' => level += 1,
            0 => return Err(TopicError::Nul { level }),
            b'+' | b'#' => {
                return Err(TopicError::Wildcard { level, wildcard: byte.into() });
            }
            _ => {}
        }
    }
    check_levels(level)
}

/// The levels of a Topic Name or of a filter without share name, from the left; no level of
/// `a//b` is lost.
#[must_use]
pub fn levels(topic: &str) -> Levels<'_> {
    Levels { rest: Some(topic) }
}

/// Iterator of [`levels`].
#[derive(Clone, Debug)]
pub struct Levels<'a> {
    rest: Option<&'a str>,
}

impl<'a> Levels<'a> {
    /// The levels that have not come yet, as they stand in the topic; none if all have.
    pub(crate) const fn rest(&self) -> Option<&'a str> {
        self.rest
    }
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        // Levels are short: a byte loop beats a vectorised search here.
        if let Some(end) = rest.bytes().position(|byte| byte == b'/') {
            self.rest = Some(&rest[end + 1..]);
            Some(&rest[..end])
        } else {
            self.rest = None;
            Some(rest)
        }
    }
}

/// Whether leading wildcards pass over the topic [MQTT-4.7.2-1].
#[must_use]
pub fn is_dollar(topic: &str) -> bool {
    topic.as_bytes().first() == Some(&b'$')
}

/// A valid Topic Filter, with or without `$share/name/` before it. Cloning copies a pointer.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter {
    text: Arc<str>,
    /// Where the filter begins that follows a share name; 0 when there is none.
    filter_start: u32,
    has_wildcards: bool,
}

impl TopicFilter {
    /// Parses a filter as it stands in SUBSCRIBE and UNSUBSCRIBE.
    ///
    /// # Errors
    /// What is wrong with it first, from the left.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_length(text)?;
        let filter_start = match text.strip_prefix(SHARE_PREFIX) {
            Some(shared) => SHARE_PREFIX.len() + check_share_name(shared)?,
            None => 0,
        };
        let levels_before = if filter_start == 0 { 0 } else { 2 };
        let has_wildcards = check_filter(&text[filter_start..], levels_before)?;
        let filter_start = u32::try_from(filter_start).expect("the length was checked");
        Ok(Self { text: text.into(), filter_start, has_wildcards })
    }

    /// The filter as it was sent, `$share/name/` included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same text, shared.
    #[must_use]
    pub fn as_arc(&self) -> &Arc<str> {
        &self.text
    }

    /// The share name, if this is the filter of a Shared Subscription [MQTT 4.8.2].
    #[must_use]
    pub fn share_group(&self) -> Option<&str> {
        let end = (self.filter_start as usize).checked_sub(1)?;
        Some(&self.text[SHARE_PREFIX.len()..end])
    }

    /// The filter that Topic Names are matched with: without `$share/name/`.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.text[self.filter_start as usize..]
    }

    /// The levels of [`Self::filter`].
    #[must_use]
    pub fn levels(&self) -> Levels<'_> {
        levels(self.filter())
    }

    /// Whether `+` or `#` is in it; without, it matches exactly one Topic Name.
    #[must_use]
    pub fn has_wildcards(&self) -> bool {
        self.has_wildcards
    }

    /// Whether a message with that (valid) Topic Name is for this filter [MQTT 4.7].
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        if !self.has_wildcards {
            return self.filter() == topic;
        }
        matches(self.levels(), topic)
    }

    /// Whether this filter matches every Topic Name that `other` matches. Share names are ignored.
    ///
    /// Exact, not only sufficient: `+/#` covers `#`, and `/+/#` covers `/#` because the empty
    /// string is no Topic Name.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        covers(self.levels(), other.levels())
    }

    /// Whether some Topic Name is matched by both filters. Share names are ignored. Exact.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        intersects(self.levels(), other.levels())
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicFilter({:?})", self.text)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// [`TopicFilter::matches`] on levels.
pub(crate) fn matches<'a>(mut filter: impl Iterator<Item = &'a str>, topic: &str) -> bool {
    let mut topic_levels = levels(topic);
    let mut passes_over = is_dollar(topic);
    loop {
        match (filter.next(), topic_levels.next()) {
            // `a/#` matches `a` as well: the number sign stands for its parent too.
            (Some("#"), _) => return !passes_over,
            (Some("+"), Some(_)) if passes_over => return false,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
        passes_over = false;
    }
}

/// [`TopicFilter::covers`] on levels.
pub(crate) fn covers<'a>(
    mut wide: impl Iterator<Item = &'a str>,
    mut narrow: impl Iterator<Item = &'a str>,
) -> bool {
    let mut at_start = true;
    let mut parent_is_no_topic = false;
    loop {
        let narrow_level = narrow.next();
        match (wide.next(), narrow_level) {
            (Some("#"), Some(level)) => return !(at_start && is_dollar(level)),
            (Some("#") | None, None) => return true,
            // Here `#` stands for one level at least, which `+/#` says in other words.
            (Some("+"), Some("#")) if at_start || parent_is_no_topic => {
                return wide.next() == Some("#");
            }
            (_, Some("#")) => return false,
            (Some("+"), Some(level)) if at_start && is_dollar(level) => return false,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
        parent_is_no_topic = at_start && narrow_level == Some("");
        at_start = false;
    }
}

/// [`TopicFilter::intersects`] on levels.
pub(crate) fn intersects<'a>(
    mut left: impl Iterator<Item = &'a str>,
    mut right: impl Iterator<Item = &'a str>,
) -> bool {
    let mut at_start = true;
    let mut parent_is_no_topic = false;
    loop {
        let (left_level, right_level) = (left.next(), right.next());
        match (left_level, right_level) {
            (Some("#"), Some(level)) | (Some(level), Some("#")) => {
                return !(at_start && is_dollar(level));
            }
            (Some("#"), None) | (None, Some("#")) => return !parent_is_no_topic,
            (Some("+"), Some(level)) | (Some(level), Some("+")) => {
                if at_start && is_dollar(level) {
                    return false;
                }
            }
            (Some(a), Some(b)) if a == b => {}
            (None, None) => return true,
            _ => return false,
        }
        parent_is_no_topic = at_start && (left_level == Some("") || right_level == Some(""));
        at_start = false;
    }
}

fn check_length(topic: &str) -> Result<(), TopicError> {
    match topic.len() {
        0 => Err(TopicError::Empty),
        length if length > TOPIC_BYTES_MAX => Err(TopicError::TooLong { length }),
        _ => Ok(()),
    }
}

fn check_levels(count: usize) -> Result<(), TopicError> {
    if count > TOPIC_LEVELS_MAX { Err(TopicError::TooManyLevels) } else { Ok(()) }
}

/// Takes what follows `$share/`; gives the length of the share name and the slash after it.
fn check_share_name(shared: &str) -> Result<usize, TopicError> {
    let (name, filter) = match shared.split_once('/') {
        Some((name, filter)) => (name, Some(filter)),
        None => (shared, None),
    };
    if name.is_empty() {
        return Err(TopicError::ShareNameEmpty);
    }
    for byte in name.bytes() {
        match byte {
            0 => return Err(TopicError::Nul { level: 2 }),
            b'+' | b'#' => {
                return Err(TopicError::ShareNameWildcard { wildcard: byte.into() });
            }
            _ => {}
        }
    }
    if filter.is_none_or(str::is_empty) {
        return Err(TopicError::ShareFilterMissing);
    }
    Ok(name.len() + 1)
}

/// Whether the filter has wildcards, when it is valid.
fn check_filter(filter: &str, levels_before: usize) -> Result<bool, TopicError> {
    let mut has_wildcards = false;
    let mut levels = levels(filter);
    let mut level = levels_before;
    while let Some(text) = levels.next() {
        level += 1;
        for byte in text.bytes() {
            match byte {
                0 => return Err(TopicError::Nul { level }),
                b'+' | b'#' if text.len() > 1 => {
                    return Err(TopicError::WildcardPlacement { level, wildcard: byte.into() });
                }
                b'#' if levels.rest.is_some() => return Err(TopicError::HashNotLast { level }),
                b'+' | b'#' => has_wildcards = true,
                _ => {}
            }
        }
    }
    check_levels(level - levels_before)?;
    Ok(has_wildcards)
}

#[cfg(test)]
pub(crate) mod tests;
