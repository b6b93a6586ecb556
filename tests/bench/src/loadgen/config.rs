//! One run's settings, and what the scenarios make of them: topics, filters.
//! What must not live here: sockets.

use std::net::SocketAddr;

use super::args::Args;
use super::payload::Form;
use super::wire::ConnectOpts;

#[derive(Clone)]
pub(crate) struct Cfg {
    pub(crate) addr: SocketAddr,
    pub(crate) scenario: String,
    pub(crate) level: u8,
    pub(crate) qos: u8,
    pub(crate) size: usize,
    pub(crate) form: Form,
    pub(crate) pubs: usize,
    pub(crate) subs: usize,
    /// Topics of each publisher; its subscriber has one subscription for each.
    pub(crate) topics: usize,
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    pub(crate) rate: f64,
    pub(crate) window: u64,
    pub(crate) inflight: usize,
    pub(crate) threads: usize,
    pub(crate) co: ConnectOpts,
    pub(crate) user_pattern: bool,
    pub(crate) cprefix: String,
    pub(crate) tprefix: String,
    /// The publisher's client identifier is the topic's second level.
    pub(crate) own_topics: bool,
    pub(crate) retain: bool,
    pub(crate) pid: Option<u32>,
    pub(crate) drain: f64,
}

impl Cfg {
    pub(crate) fn new(a: &Args) -> Self {
        let level: u8 = a.n("mqtt", 4);
        let address = format!("{}:{}", a.s("host", "127.0.0.1"), a.n::<u16>("port", 1883));
        let form = if a.f("json-payload") { Form::Json } else { Form::Binary };
        Self {
            addr: address.parse().expect("--host must be an IP address"),
            scenario: a.s("scenario", "pair"),
            level,
            qos: a.n("qos", 0),
            size: a.n::<usize>("size", 64).max(form.bytes_min()),
            form,
            pubs: a.n("pubs", 1),
            subs: a.n("subs", 1),
            topics: a.n::<usize>("topics", 1).max(1),
            seconds: a.n("seconds", 5.0),
            warmup: a.n("warmup", 1.0),
            rate: a.n("rate", 0.0),
            window: a.n("window", 2000),
            inflight: a.n("inflight", 100),
            threads: a.n::<usize>("threads", 1).max(1),
            co: ConnectOpts {
                user: a.o("username"),
                pass: a.o("password"),
                keepalive: a.n("keepalive", 0),
                clean: true,
                level,
                recv_max: 65535,
            },
            user_pattern: a.f("user-pattern"),
            cprefix: a.s("client-prefix", &format!("lg{}", std::process::id())),
            tprefix: a.s("topic-prefix", &format!("lg{}", std::process::id())),
            own_topics: a.f("own-topics"),
            retain: a.f("retain"),
            pid: a.o("server-pid").and_then(|p| p.parse().ok()),
            drain: a.n("drain", 3.0),
        }
    }

    pub(crate) fn opts(&self, n: usize) -> ConnectOpts {
        let mut o = self.co.clone();
        if self.user_pattern {
            o.user = o.user.map(|u| format!("{u}{n}"));
        }
        o
    }

    pub(crate) fn publisher_id(&self, p: usize) -> String {
        format!("{}-p{p}", self.cprefix)
    }

    /// The topics of publisher `p`.
    pub(crate) fn topics_of(&self, p: usize) -> Vec<String> {
        let first = match self.scenario.as_str() {
            "fanout" => format!("{}/0", self.tprefix),
            _ if self.own_topics => format!("{}/{}", self.tprefix, self.publisher_id(p)),
            _ => format!("{}/{p}", self.tprefix),
        };
        match self.topics {
            1 => vec![first],
            many => (0..many).map(|t| format!("{first}/{t}")).collect(),
        }
    }

    /// The filters of subscriber `s`.
    pub(crate) fn filters_of(&self, s: usize) -> Vec<String> {
        match self.scenario.as_str() {
            "fanin" => vec![format!("{}/#", self.tprefix)],
            _ => self.topics_of(s),
        }
    }

    /// Number of subscribers that get each message of publisher `p`.
    pub(crate) fn fan(&self, p: usize) -> u64 {
        match self.scenario.as_str() {
            "pair" => u64::from(p < self.subs),
            _ => self.subs as u64,
        }
    }
}
