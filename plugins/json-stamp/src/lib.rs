//! `json-stamp`: adds the time of receipt and the client identifier to JSON objects. How a member
//! gets into an object is in `splice`.

mod splice;

use serde::Deserialize;
use wasmqtt_plugin::{
    Connection, Message, OnPublish, Plugin, Startup, Verdict, clock, export, reason_code,
};

use splice::{Member, splice};

/// What the operator may configure.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    received_at: String,
    client_id: String,
    not_json: NotJson,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NotJson {
    Refuse,
    Pass,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            received_at: "received_at".to_owned(),
            client_id: "client_id".to_owned(),
            not_json: NotJson::Refuse,
        }
    }
}

/// The plugin.
pub struct JsonStamp(Config);

impl Plugin for JsonStamp {
    fn init(startup: &Startup) -> Result<Self, String> {
        let config: Config =
            serde_json::from_str(&startup.config()).map_err(|error| format!("config: {error}"))?;
        if config.received_at.is_empty() || config.client_id.is_empty() {
            return Err("config: a member's name is empty".to_owned());
        }
        if config.received_at == config.client_id {
            return Err("config: received_at and client_id have the same name".to_owned());
        }
        Ok(JsonStamp(config))
    }
}

impl OnPublish for JsonStamp {
    fn on_publish(&mut self, connection: &Connection, message: &Message) -> Verdict {
        // An empty payload carries nothing to stamp, and clears a Retained Message [MQTT-3.3.1-6].
        if message.payload_length() == 0 {
            return Verdict::Pass;
        }
        let received_at = clock::now_unix_ms().to_string();
        let client_id = serde_json::Value::from(connection.client_id()).to_string();
        let members = [
            Member { name: &self.0.received_at, json: &received_at },
            Member { name: &self.0.client_id, json: &client_id },
        ];
        match (splice(&message.payload(), &members), self.0.not_json) {
            (Some(stamped), _) => {
                message.set_payload(&stamped);
                Verdict::Pass
            }
            (None, NotJson::Pass) => Verdict::Pass,
            (None, NotJson::Refuse) => Verdict::refuse(
                reason_code::PAYLOAD_FORMAT_INVALID,
                "the payload is not a JSON object",
            ),
        }
    }
}

export!(JsonStamp: OnPublish);

#[cfg(test)]
mod tests;
