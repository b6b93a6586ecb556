//! Topic Filters with `${clientid}` as a level, and whether one covers a topic or a filter. No
//! knowledge of connections or configuration.

/// A Topic Filter in which a level may stand for the client identifier.
pub(crate) struct Pattern {
    levels: Vec<Level>,
}

enum Level {
    Exactly(String),
    ClientId,
    AnyOne,
    AnyRest,
}

/// True if the text can stand for one level of a topic. A client identifier that can't, such as
/// `a/b` or `#`, would reach into what belongs to others.
pub(crate) fn is_one_level(text: &str) -> bool {
    !text.is_empty() && !text.contains(['+', '#', '/', '\0'])
}

impl Pattern {
    /// Parses a filter; an error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a topic filter is not empty".to_owned());
        }
        let count = text.split('/').count();
        let levels = text.split('/').enumerate();
        let levels = levels.map(|(index, level)| match level {
            "+" => Ok(Level::AnyOne),
            "#" if index + 1 == count => Ok(Level::AnyRest),
            "${clientid}" => Ok(Level::ClientId),
            _ if level.contains(['+', '#', '\0']) => Err(format!(
                "`{}`: `+` stands alone in its level and `#` alone in the last",
                text.escape_debug()
            )),
            _ if level.contains("${") => Err(format!(
                "`{text}`: only `${{clientid}}` can be filled in, and only as a whole level"
            )),
            _ => Ok(Level::Exactly(level.to_owned())),
        });
        Ok(Pattern { levels: levels.collect::<Result<_, _>>()? })
    }

    /// True if every topic that `filter` (a Topic Filter or a Topic Name) matches is matched by
    /// this pattern too [MQTT5 4.7].
    pub(crate) fn covers(&self, filter: &str, client_id: &str) -> bool {
        // A leading wildcard does not match topics that begin with `$` [MQTT-4.7.2-1], and a client
        // does not come to own `$SYS` by calling itself so.
        if filter.starts_with('$') && !matches!(self.levels[0], Level::Exactly(_)) {
            return false;
        }
        let mut wanted = filter.split('/');
        for level in &self.levels {
            let Some(wanted) = wanted.next() else {
                // `a/#` covers `a` as well [MQTT5 4.7.1.2].
                return matches!(level, Level::AnyRest);
            };
            let covered = match level {
                Level::AnyRest => return true,
                Level::AnyOne => wanted != "#",
                Level::Exactly(text) => wanted == text,
                Level::ClientId => wanted == client_id,
            };
            if !covered {
                return false;
            }
        }
        wanted.next().is_none()
    }

    /// The pattern as a Topic Filter of that client.
    pub(crate) fn with(&self, client_id: &str) -> String {
        let levels = self.levels.iter().map(|level| match level {
            Level::Exactly(text) => text.as_str(),
            Level::ClientId => client_id,
            Level::AnyOne => "+",
            Level::AnyRest => "#",
        });
        levels.collect::<Vec<_>>().join("/")
    }
}
