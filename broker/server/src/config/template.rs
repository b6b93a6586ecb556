//! The `broker.toml` that `create` writes: every key, its default, and what it is for.
//! What must not live here: reading it back.

use std::net::SocketAddr;

/// A commented file that says what the defaults say, but for `own-topics`, which enforces.
pub(crate) fn broker_toml(bind: SocketAddr) -> String {
    TEMPLATE.replace("{bind}", &bind.to_string())
}

const TEMPLATE: &str = r#"# wasmqtt: process settings. Users and access rules are in directory.db (`wasmqtt -C DIR user`, `acl`).
# A line that begins with # shows a default. `wasmqtt run DIR --set KEY=VALUE` overrides one for one run.

[listeners.mqtt]
bind = "{bind}"              # "0.0.0.0:1883": every interface
# connections_max = 100000

[auth]
# Who is asked at CONNECT, in order, until one says yes or no. Nobody says yes: refused.
# "password": directory.db; "plugin:NAME"; "anonymous": without user name and password.
order = ["password"]

[access]
# Who is asked for each topic, in order, until one says yes or no. Nobody says yes: denied.
# "rules": directory.db (a matching deny rule is final, whatever its place); "plugin:NAME".
order = ["rules", "plugin:own-topics"]

[publish]
# Plugins that each message passes through, in order.
order = []                           # ["plugin:json-stamp"]

[plugins.own-topics]
bundled = true                       # or file = "plugins/mine.wasm", relative to this file
config = { publish = ["devices/${clientid}/#"], subscribe = ["commands/${clientid}/#"] }

# [plugins.json-stamp]
# bundled = true
# config = { }
# on_fault = "refuse"                # or "pass": what a fault in on-publish means for the message
# topics = ["devices/#"]             # only these topics

# [limits]
# packet_bytes_max = 1048576
# queue_messages_max = 10000         # waiting for one session
# queue_bytes_max = 16777216
# inflight_max = 100                 # sent to a client, not acknowledged
# receive_maximum = 100              # sent by a client, not acknowledged
# subscriptions_max = 10000          # of one session
# session_expiry_seconds_max = 4294967295   # this number: for ever
# keep_alive_seconds_max = 0         # 0: what the client asks for
# connect_timeout_seconds = 10
# write_timeout_seconds = 30
# retained_messages_max = 1000000
# retained_bytes_max = 1073741824

# [workers]
# count = "auto"                     # threads that serve connections; "auto": one a core

# [log]
# level = "info"                     # error, warn, info, debug, trace; WASMQTT_LOG overrides it
# format = "pretty"                  # or "json"
"#;
