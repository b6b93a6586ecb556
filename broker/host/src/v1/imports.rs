//! The functions that plugins of contract version 0.1.0 call.
//! What must not live here: calls of hooks.

use std::sync::Arc;

use wasmqtt_core::hook::{ConnectionFacts, Principal};
use wasmqtt_core::message::MessageRef;
use wasmqtt_core::properties::{self, Property};
use wasmqtt_core::topic::check_topic_name;
use wasmtime::Result;
use wasmtime::component::Resource;

use crate::fault::Stop;
use crate::limits::{
    ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, CACHE_TTL_MS_MAX, NAME_BYTES_MAX, ROLES_MAX,
};
use crate::services::{KvError, LogLevel};
use crate::state::State;
use crate::trusted::bindings::wasmqtt::plugin::{clock, kv, log, types};
use crate::trusted::bindings::{CacheHint, Connection, Grant, Message, Startup};
use crate::trusted::lend::with_lent;
use crate::v1::{qos_from_guest, qos_to_guest};

/// No plugin holds a handle outside of the call that it was lent for.
const NOTHING_LENT: Stop = Stop::bad("a handle was used outside of its call");

fn connection<R>(read: impl FnOnce(&ConnectionFacts) -> R) -> Result<R> {
    with_lent(|lent| lent.map(|lent| read(lent.connection))).ok_or_else(|| NOTHING_LENT.into())
}

/// None: not authenticated yet.
fn principal<R>(read: impl FnOnce(Option<&Principal>) -> R) -> Result<R> {
    with_lent(|lent| lent.map(|lent| read(lent.principal))).ok_or_else(|| NOTHING_LENT.into())
}

fn message<R>(read: impl FnOnce(&MessageRef<'_>) -> R) -> Result<R> {
    with_lent(|lent| lent.and_then(|lent| lent.message.as_ref()).map(read))
        .ok_or_else(|| NOTHING_LENT.into())
}

fn check(is_fine: bool, otherwise: &'static str) -> Result<()> {
    if is_fine { Ok(()) } else { Err(Stop::bad(otherwise).into()) }
}

impl types::Host for State {}

impl types::HostConnection for State {
    fn tenant(&mut self, _: Resource<Connection>) -> Result<String> {
        connection(|facts| facts.tenant.to_string())
    }

    fn client_id(&mut self, _: Resource<Connection>) -> Result<String> {
        connection(|facts| facts.client_id.to_string())
    }

    fn username(&mut self, _: Resource<Connection>) -> Result<Option<String>> {
        connection(|facts| facts.username.as_deref().map(str::to_owned))
    }

    fn principal(&mut self, _: Resource<Connection>) -> Result<Option<String>> {
        principal(|who| who.and_then(|who| who.name.as_deref()).map(str::to_owned))
    }

    fn roles(&mut self, _: Resource<Connection>) -> Result<Vec<String>> {
        principal(|who| {
            who.map_or_else(Vec::new, |who| who.roles.iter().map(|role| role.to_string()).collect())
        })
    }

    fn attribute(&mut self, _: Resource<Connection>, name: String) -> Result<Option<String>> {
        principal(|who| {
            let (_, value) = who?.attributes.iter().find(|(known, _)| **known == *name)?;
            Some(value.to_string())
        })
    }

    fn listener(&mut self, _: Resource<Connection>) -> Result<String> {
        connection(|facts| facts.listener.to_string())
    }

    fn peer(&mut self, _: Resource<Connection>) -> Result<String> {
        connection(|facts| facts.peer.to_string())
    }

    fn protocol_level(&mut self, _: Resource<Connection>) -> Result<u8> {
        connection(|facts| facts.version.level())
    }

    fn clean_start(&mut self, _: Resource<Connection>) -> Result<bool> {
        connection(|facts| facts.clean_start)
    }

    fn keep_alive_seconds(&mut self, _: Resource<Connection>) -> Result<u16> {
        connection(|facts| facts.keep_alive_seconds)
    }

    fn drop(&mut self, _: Resource<Connection>) -> Result<()> {
        Ok(())
    }
}

impl types::HostMessage for State {
    fn topic(&mut self, _: Resource<Message>) -> Result<String> {
        message(|message| message.topic.to_owned())
    }

    fn qos(&mut self, _: Resource<Message>) -> Result<types::Qos> {
        message(|message| qos_to_guest(message.qos))
    }

    fn retain(&mut self, _: Resource<Message>) -> Result<bool> {
        message(|message| message.retain)
    }

    fn payload_length(&mut self, _: Resource<Message>) -> Result<u32> {
        // The longest MQTT packet has 28 bits of length.
        message(|message| u32::try_from(message.payload.len()).unwrap_or(u32::MAX))
    }

    fn payload(&mut self, _: Resource<Message>) -> Result<Vec<u8>> {
        message(|message| message.payload.to_vec())
    }

    fn content_type(&mut self, _: Resource<Message>) -> Result<Option<String>> {
        message(|message| {
            properties::iter(message.properties).find_map(|property| {
                let Property::ContentType(text) = property else {
                    return None;
                };
                Some(text.to_owned())
            })
        })
    }

    fn user_property(&mut self, _: Resource<Message>, name: String) -> Result<Option<String>> {
        message(|message| {
            properties::iter(message.properties).find_map(|property| {
                let Property::UserProperty(known, value) = property else {
                    return None;
                };
                (known == name).then(|| value.to_owned())
            })
        })
    }

    fn set_topic(&mut self, _: Resource<Message>, topic: String) -> Result<()> {
        check(check_topic_name(&topic).is_ok(), "set-topic with an invalid Topic Name")?;
        self.reply.topic = Some(topic);
        Ok(())
    }

    fn set_payload(&mut self, _: Resource<Message>, payload: Vec<u8>) -> Result<()> {
        let is_fine = payload.len() <= self.identity.limits.payload_bytes_max;
        check(is_fine, "set-payload with more bytes than a payload may have")?;
        self.reply.payload = Some(payload);
        Ok(())
    }

    fn set_qos(&mut self, _: Resource<Message>, qos: types::Qos) -> Result<()> {
        self.reply.qos = Some(qos_from_guest(qos));
        Ok(())
    }

    fn set_retain(&mut self, _: Resource<Message>, retain: bool) -> Result<()> {
        self.reply.retain = Some(retain);
        Ok(())
    }

    fn drop(&mut self, _: Resource<Message>) -> Result<()> {
        Ok(())
    }
}

impl types::HostStartup for State {
    fn config(&mut self, _: Resource<Startup>) -> Result<String> {
        Ok(self.identity.config.clone())
    }

    fn tenant(&mut self, _: Resource<Startup>) -> Result<String> {
        Ok(self.identity.tenant.to_string())
    }

    fn host_version(&mut self, _: Resource<Startup>) -> Result<String> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    fn drop(&mut self, _: Resource<Startup>) -> Result<()> {
        Ok(())
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_fine = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains('\0');
    check(is_fine, "a principal, role or attribute name that is empty, too long or contains NUL")
}

impl types::HostGrant for State {
    fn set_principal(&mut self, _: Resource<Grant>, name: String) -> Result<()> {
        check_name(&name)?;
        self.reply.grant.principal = Some(name);
        Ok(())
    }

    fn add_role(&mut self, _: Resource<Grant>, role: String) -> Result<()> {
        check_name(&role)?;
        let roles = &mut self.reply.grant.roles;
        if !roles.iter().any(|known| **known == *role) {
            check(roles.len() < ROLES_MAX, "more roles than a principal may have")?;
            roles.push(Arc::from(role));
        }
        Ok(())
    }

    fn set_attribute(&mut self, _: Resource<Grant>, name: String, value: String) -> Result<()> {
        check_name(&name)?;
        check(value.len() <= ATTRIBUTE_BYTES_MAX, "an attribute value that is too long")?;
        let attributes = &mut self.reply.grant.attributes;
        attributes.retain(|(known, _)| **known != *name);
        check(attributes.len() < ATTRIBUTES_MAX, "more attributes than a principal may have")?;
        attributes.push((name.into_boxed_str(), value.into_boxed_str()));
        Ok(())
    }

    fn set_expires_at(&mut self, _: Resource<Grant>, unix_seconds: u64) -> Result<()> {
        self.reply.grant.expires_at_unix_seconds = Some(unix_seconds);
        Ok(())
    }

    fn drop(&mut self, _: Resource<Grant>) -> Result<()> {
        Ok(())
    }
}

impl types::HostCacheHint for State {
    fn set_ttl_ms(&mut self, _: Resource<CacheHint>, ttl_ms: u32) -> Result<()> {
        self.reply.ttl_ms = ttl_ms.min(CACHE_TTL_MS_MAX);
        Ok(())
    }

    fn drop(&mut self, _: Resource<CacheHint>) -> Result<()> {
        Ok(())
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> Result<()> {
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Error => LogLevel::Error,
        };
        let identity = &self.identity;
        let services = &identity.services;
        let now = services.clock.monotonic();
        services.log.log(now, &identity.tenant, &identity.name, level, &message);
        Ok(())
    }
}

impl clock::Host for State {
    fn now_unix_ms(&mut self) -> Result<u64> {
        Ok(self.identity.services.clock.unix_ms())
    }

    fn monotonic_ms(&mut self) -> Result<u64> {
        Ok(self.identity.services.clock.monotonic().0)
    }
}

impl kv::Host for State {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>> {
        let services = &self.identity.services;
        Ok(services.kv.get(&key, services.clock.monotonic()))
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u32>,
    ) -> Result<Result<(), kv::Error>> {
        let (services, limits) = (&self.identity.services, &self.identity.limits.kv);
        let kept = services.kv.set(key, value, ttl_ms, services.clock.monotonic(), limits);
        Ok(kept.map_err(|error| match error {
            KvError::TooLarge => kv::Error::TooLarge,
            KvError::QuotaExceeded => kv::Error::QuotaExceeded,
        }))
    }

    fn remove(&mut self, key: String) -> Result<()> {
        self.identity.services.kv.remove(&key);
        Ok(())
    }
}
