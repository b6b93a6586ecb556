//! `own-topics`: a client publishes and subscribes under its own client identifier only. How
//! filters compare is in `pattern`.

mod pattern;

use serde::Deserialize;
use wasmqtt_plugin::{
    Action, Authorize, CacheHint, Connection, Decision, Plugin, Request, Startup, export,
};

use pattern::Pattern;

/// What the operator may configure.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    publish: Vec<String>,
    subscribe: Vec<String>,
    otherwise: Otherwise,
    cache_ttl_seconds: u32,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Otherwise {
    Deny,
    Next,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            publish: vec!["devices/${clientid}/#".to_owned()],
            subscribe: vec!["commands/${clientid}/#".to_owned()],
            otherwise: Otherwise::Deny,
            cache_ttl_seconds: 60,
        }
    }
}

/// The plugin.
pub struct OwnTopics {
    publish: Vec<Pattern>,
    subscribe: Vec<Pattern>,
    otherwise: Otherwise,
    cache_ttl_ms: u32,
}

impl Plugin for OwnTopics {
    fn init(startup: &Startup) -> Result<Self, String> {
        let config: Config =
            serde_json::from_str(&startup.config()).map_err(|error| format!("config: {error}"))?;
        let cache_ttl_ms = config.cache_ttl_seconds.checked_mul(1000);
        Ok(OwnTopics {
            publish: parse_all("publish", &config.publish)?,
            subscribe: parse_all("subscribe", &config.subscribe)?,
            otherwise: config.otherwise,
            cache_ttl_ms: cache_ttl_ms.ok_or("config: cache_ttl_seconds is too large")?,
        })
    }
}

fn parse_all(key: &str, patterns: &[String]) -> Result<Vec<Pattern>, String> {
    let parsed = patterns.iter().map(|pattern| Pattern::parse(pattern));
    parsed.collect::<Result<_, _>>().map_err(|error| format!("config: {key}: {error}"))
}

impl Authorize for OwnTopics {
    fn authorize(
        &mut self,
        connection: &Connection,
        request: &Request,
        cache: &CacheHint,
    ) -> Decision {
        if self.cache_ttl_ms > 0 {
            cache.set_ttl_ms(self.cache_ttl_ms);
        }
        let client_id = connection.client_id();
        let (patterns, topic) = match request.action {
            // The broker refuses wildcards in a Topic Name; here they would read as a filter's.
            Action::Publish | Action::Will if request.topic.contains(['+', '#']) => {
                return self.otherwise("a Topic Name has no wildcards".to_owned());
            }
            Action::Publish | Action::Will => (&self.publish, Some(request.topic.as_str())),
            Action::Subscribe => (&self.subscribe, without_share(&request.topic)),
        };
        let own = pattern::is_one_level(&client_id)
            && topic.is_some_and(|topic| patterns.iter().any(|p| p.covers(topic, &client_id)));
        if own { Decision::Allow } else { self.otherwise(reason(patterns, request, &client_id)) }
    }
}

impl OwnTopics {
    fn otherwise(&self, reason: String) -> Decision {
        match self.otherwise {
            Otherwise::Deny => Decision::not_authorized(reason),
            Otherwise::Next => Decision::Next,
        }
    }
}

/// The filter of a Shared Subscription without `$share/group/` [MQTT5 4.8.2]; none when it has no
/// filter.
fn without_share(topic_filter: &str) -> Option<&str> {
    match topic_filter.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/').map(|(_group, filter)| filter),
        None => Some(topic_filter),
    }
}

fn reason(patterns: &[Pattern], request: &Request, client_id: &str) -> String {
    let verb = match request.action {
        Action::Publish => "publish",
        Action::Will => "leave a will",
        Action::Subscribe => "subscribe",
    };
    if !pattern::is_one_level(client_id) {
        return format!("may not {verb}: the client identifier can't stand in a topic");
    }
    if patterns.is_empty() {
        return format!("may not {verb}");
    }
    let own: Vec<String> = patterns.iter().map(|pattern| pattern.with(client_id)).collect();
    format!("may {verb} within {} only", own.join(", "))
}

export!(OwnTopics: Authorize);

#[cfg(test)]
mod tests;
