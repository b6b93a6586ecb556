//! The `broker.toml` that `create` writes: every key, its default, and what it is for.
//! What must not live here: reading it back.

use std::net::SocketAddr;

use wasmqtt_core::limits::QueuePolicy;

use crate::config::listener::Listener;
use crate::config::{Limits, QUEUE_POLICIES};

/// A commented file that says what the defaults say, but for `own-topics`, which enforces.
pub(crate) fn broker_toml(bind: SocketAddr) -> String {
    let connections = Listener::default().connections_max;
    TEMPLATE
        .replace("{bind}", &bind.to_string())
        .replace("{connections_max}", &connections.to_string())
        .replace("{limits}", &limits())
}

/// Each limit with its default, as comments.
fn limits() -> String {
    let limits = Limits::default();
    // Field and key have one name.
    macro_rules! lines {
        ($($field:ident $note:literal)*) => {
            [$((format!("# {} = {}", stringify!($field), limits.$field), $note)),*]
        };
    }
    let lines = lines! {
        packet_bytes_max ""
        queue_messages_max "waiting for one session"
        queue_bytes_max ""
        inflight_max "sent to a client, not acknowledged"
        receive_maximum "sent by a client, not acknowledged"
        topic_aliases_max "topics that a client is sent by a number; 0: none"
        subscriptions_max "of one session"
        sessions_max "with and without a connection"
        session_expiry_seconds_max "a week; 4294967295: for ever"
        keep_alive_seconds_max "0: what the client asks for"
        connect_timeout_seconds ""
        write_timeout_seconds "a client that takes no bytes is cut"
        frame_timeout_seconds "of a packet that has begun, and a second for each KiB that came"
        delayed_messages_max "waiting as $delayed/SECONDS/TOPIC; 0: none may"
        delayed_bytes_max ""
        delay_seconds_max ""
        retained_messages_max ""
        retained_bytes_max ""
    };
    let text = lines.map(|(setting, note)| match note {
        "" => setting + "\n",
        note => format!("{setting:<42} # {note}\n"),
    });
    text.concat() + &queue_policy(limits.queue_policy)
}

fn queue_policy(default: QueuePolicy) -> String {
    let name = |(name, policy): &(&'static str, QueuePolicy)| (*policy == default).then_some(*name);
    let default = QUEUE_POLICIES.iter().find_map(name).unwrap_or_default();
    let others = QUEUE_POLICIES.iter().map(|(name, _)| *name).filter(|name| *name != default);
    let others: Vec<&str> = others.collect();
    let setting = format!("# queue_policy = \"{default}\"");
    format!("{setting:<42} # {}; QoS 0 goes first whatever it says\n", others.join(", "))
}

const TEMPLATE: &str = r#"# wasmqtt: process settings. Users and access rules are in directory.db (`wasmqtt -C DIR user`, `acl`).
# A line that begins with # shows a default. `wasmqtt run DIR --set KEY=VALUE` overrides one for one run.

[listeners.mqtt]
bind = "{bind}"              # "0.0.0.0:1883": every interface; "[::]:1883": IPv6 too
# transport = "tcp"                  # "ws": MQTT over WebSocket
# connections_max = {connections_max}
# connections_per_address_max = 100  # none unless set; of IPv6: per network of 64 bits
# connect_rate_max = 1000            # a second, none unless set; further ones wait to be accepted
# connect_timeout_seconds = 10       # in place of the limit below
# trusted_proxies = ["10.0.0.0/8"]   # they must send a PROXY header (v1, v2); "unix": Unix sockets

# A Unix socket, relative to this file, and who may use it.
# [listeners.local]
# bind = "unix:mqtt.sock"
# unix_mode = 0o600

# MQTT over WebSocket, as browsers speak it, is a listener of its own: [listeners.web] with another `bind`
# and `transport = "ws"`. Its `path` is "/mqtt"; `origins = ["https://app.example"]` names the sites whose
# pages may connect. Without `origins` the pages of any site may.

# TLS: the files are in the PEM format; paths are relative to this file. `wasmqtt -C DIR reload`, or
# SIGHUP, reads them anew: connections stay, new ones get what was read.
# [listeners.mqtts]
# bind = "0.0.0.0:8883"
# [listeners.mqtts.tls]
# certificate = "server.crt"         # the server's own, then those that signed it
# key = "server.key"
# client_ca = "clients-ca.crt"       # clients show certificates of these authorities
# client_certificate = "required"    # or "optional"
# crl = "revoked.crl"                # one that no list here speaks of is refused too
# versions = ["1.2", "1.3"]

[auth]
# Who is asked at CONNECT, in order, until one says yes or no. Nobody says yes: refused.
# "password": directory.db; "plugin:NAME"; "anonymous": without user name and password.
order = ["password"]
# Plugins that are asked instead, in order, when a client of MQTT 5 names an Authentication Method (AUTH).
# exchange = []                      # ["plugin:NAME"]

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

# [topics]
# sys_interval_seconds = 10          # how often $SYS is published; 0: never
#   check_payload_format = false     true: a payload that says it is text and is not is refused
#   response_information = "responses/"   told to MQTT 5 clients that ask for Response Information
#
#   [[rewrite]]                      before access is asked; the first that matches counts, once
#   from = "old/+/data"              $1 is what the first + or # stands for
#   to = "new/$1/data"
#   on = ["publish", "subscribe"]
#
#   [[auto_subscribe]]               at each CONNECT, if the client may subscribe to it
#   filter = "devices/${clientid}/commands"
#   qos = 1                          also no_local, retain_as_published, retain_handling

#   [[shared]]                       $share groups: the first that applies chooses the member
#   group = "workers-*"
#   filter = "jobs/#"                may be left out
#   strategy = "least-in-flight"     round-robin where none applies; random, sticky, hash-client
#                                    (by publisher), hash-topic

# [limits]
{limits}
# [workers]
# count = "auto"                     # threads that serve connections; "auto": one a core

# [log]
# level = "info"                     # error, warn, info, debug, trace; WASMQTT_LOG overrides it
# format = "pretty"                  # or "json"
"#;
