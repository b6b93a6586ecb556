//! Arguments of the load generator and their help.
//! What must not live here: what they mean for a run.

use std::collections::HashMap;
pub(crate) const HELP: &str = "loadgen: raw-epoll MQTT load generator

  --host H            server address (IP), default 127.0.0.1
  --port N            default 1883
  --scenario S        pair    pub i -> sub i on its own topic
                      fanout  every sub subscribes to one topic, pubs publish to it
                      fanin   every sub subscribes PREFIX/#, pub i publishes PREFIX/i
                      connect CONNECT/CONNACK/DISCONNECT as fast as possible (--concurrency)
                      idle    open --subs connections, subscribe each to PREFIX/i, hold --seconds
                      slow-reader  --pubs publish as fast as they are let to one subscriber that never
                              reads and one that is slow; latency of a pair beside them
                      retained  --topics retained messages to one subscriber of all, --subs times in turn;
                              latency of a pair beside it
                      churn   one client, --rate SUBSCRIBE and UNSUBSCRIBE a second, for --seconds
  --mqtt 4|5          protocol level, default 4 (3.1.1)
  --qos 0|1|2         publish and subscribe QoS, default 0
  --size N            payload bytes (min 16), default 64
  --pubs N --subs N   default 1 and 1
  --seconds N         measured seconds, default 5;   --warmup N default 1
  --rate N            total publishes/s (open loop, latency from the intended send time); 0 = as fast as
                      the window allows
  --window N          max undelivered messages per publisher when --rate 0, default 2000 (0 = no window)
  --inflight N        max unacked QoS1/2 publishes per publisher, default 100
  --threads N         default 1
  --concurrency N     connect scenario: parallel connections, default 50
  --username U --password P
  --user-pattern      append the connection number to the username (device0, device1, ..)
  --client-prefix P   --topic-prefix P   default lg<process id> (unique per run)
  --keepalive N       default 0
  --retain            publish with the retain flag
  --server-pid PID    report server CPU and RSS from /proc
  --drain N           seconds to wait for outstanding messages at the end, default 3
  --topics N          topics of each publisher, default 1; its subscriber subscribes to each
  --own-topics        the publisher's client identifier is the topic's second level
  --json-payload      the payload is a JSON object (min 61 bytes), to which a broker may add
  --label TEXT        copied to the output
Output: one JSON object on stdout.";
pub(crate) struct Args(HashMap<String, String>);
impl Args {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut m = HashMap::new();
        let mut it = arguments;
        const KNOWN: &[&str] = &[
            "host",
            "port",
            "scenario",
            "mqtt",
            "qos",
            "size",
            "pubs",
            "subs",
            "seconds",
            "warmup",
            "rate",
            "window",
            "inflight",
            "threads",
            "concurrency",
            "username",
            "password",
            "user-pattern",
            "client-prefix",
            "topic-prefix",
            "keepalive",
            "retain",
            "server-pid",
            "drain",
            "label",
            "topics",
            "own-topics",
            "json-payload",
        ];
        while let Some(a) = it.next() {
            let Some(k) = a.strip_prefix("--") else {
                eprintln!("unexpected argument {a}\n{HELP}");
                std::process::exit(2)
            };
            if k == "help" {
                println!("{HELP}");
                std::process::exit(0)
            }
            if !KNOWN.contains(&k) {
                eprintln!("unknown flag --{k}\n{HELP}");
                std::process::exit(2)
            }
            let flag = matches!(k, "retain" | "user-pattern" | "own-topics" | "json-payload");
            let v = if flag {
                "1".into()
            } else {
                it.next().unwrap_or_else(|| {
                    eprintln!("--{k} needs a value");
                    std::process::exit(2)
                })
            };
            m.insert(k.to_string(), v);
        }
        Args(m)
    }
    pub(crate) fn s(&self, k: &str, d: &str) -> String {
        self.0.get(k).cloned().unwrap_or_else(|| d.into())
    }
    pub(crate) fn o(&self, k: &str) -> Option<String> {
        self.0.get(k).cloned()
    }
    pub(crate) fn n<T: std::str::FromStr>(&self, k: &str, d: T) -> T {
        match self.0.get(k) {
            None => d,
            Some(v) => v.parse().unwrap_or_else(|_| {
                eprintln!("bad number for --{k}");
                std::process::exit(2)
            }),
        }
    }
    pub(crate) fn f(&self, k: &str) -> bool {
        self.0.contains_key(k)
    }
}
