//! What is measured, between whom, and what is good enough.
//! What must not live here: how it is measured.

use super::brokers::Contender;
use super::measure::Figures;

/// A figure of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Metric {
    /// The broker's CPU-seconds per million deliveries.
    Cpu,
    /// Median latency in microseconds.
    P50,
    /// 99th percentile of the latency in microseconds.
    P99,
    /// System calls of the broker per message.
    Syscalls,
    /// Resident bytes per idle connection.
    ConnectionBytes,
    /// The broker's CPU microseconds per CONNECT.
    ConnectCpu,
    /// The most resident memory of the broker, in MiB.
    PeakMemory,
    /// Median latency in microseconds before the load.
    P50Before,
    /// 99th percentile of the latency in microseconds before the load.
    P99Before,
}

impl Metric {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU s / M deliveries",
            Self::P50 => "p50 us",
            Self::P99 => "p99 us",
            Self::Syscalls => "system calls / message",
            Self::ConnectionBytes => "bytes / idle connection",
            Self::ConnectCpu => "CPU us / CONNECT",
            Self::PeakMemory => "peak MiB resident",
            Self::P50Before => "p50 us before the load",
            Self::P99Before => "p99 us before the load",
        }
    }

    pub(crate) fn of(self, figures: &Figures) -> Option<f64> {
        match self {
            Self::Cpu => figures.cpu_per_million,
            Self::P50 => figures.p50_us,
            Self::P99 => figures.p99_us,
            Self::Syscalls => figures.syscalls_per_message,
            Self::ConnectionBytes => figures.bytes_per_connection,
            Self::ConnectCpu => figures.cpu_us_per_connect,
            Self::PeakMemory => figures.peak_mib,
            Self::P50Before => figures.p50_before_us,
            Self::P99Before => figures.p99_before_us,
        }
    }
}

/// What the first contender's figure has to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Target {
    /// So many times less than the second one's.
    TimesLess(f64),
    /// At most so many times the second one's.
    TimesAtMost(f64),
    /// At most this.
    AtMost(f64),
    /// Only reported, as a ratio.
    Report,
    /// Only reported, as the difference per message in microseconds.
    ReportPerMessage,
}

pub(crate) struct Pattern {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Arguments of the load generator.
    pub(crate) load: &'static str,
    /// The one that is judged first, then what it is compared with.
    pub(crate) contenders: Vec<Contender>,
    pub(crate) checks: Vec<(Metric, Target)>,
    pub(crate) count_syscalls: bool,
    /// SUBSCRIBE and UNSUBSCRIBE a second of one more client.
    pub(crate) churn_per_second: u32,
    /// Whether `--publishers` says how many publish.
    pub(crate) takes_publishers: bool,
}

fn with_mosquitto(
    name: &'static str,
    about: &'static str,
    load: &'static str,
    check: (Metric, Target),
) -> Pattern {
    Pattern {
        name,
        about,
        load,
        contenders: vec![Contender::Dev(Some(1)), Contender::Mosquitto],
        checks: vec![check],
        count_syscalls: false,
        churn_per_second: 0,
        takes_publishers: false,
    }
}

fn between(
    name: &'static str,
    about: &'static str,
    load: &'static str,
    contenders: [Contender; 2],
    target: Target,
) -> Pattern {
    Pattern {
        contenders: contenders.into(),
        ..with_mosquitto(name, about, load, (Metric::Cpu, target))
    }
}

const RULES_ONLY: Contender =
    Contender::Created { name: "created", settings: &["access.order=[\"rules\"]"] };

const OWN_TOPICS: Contender = Contender::Created {
    name: "created, own-topics",
    settings: &[
        "access.order=[\"plugin:own-topics\"]",
        "plugins.own-topics.config={ publish = [\"bench/${clientid}/#\"], subscribe = [\"bench/#\"], cache_ttl_seconds = 3600 }",
    ],
};

const JSON_STAMP: Contender = Contender::Created {
    name: "created, json-stamp",
    settings: &[
        "access.order=[\"rules\"]",
        "publish.order=[\"plugin:json-stamp\"]",
        "plugins.json-stamp.bundled=true",
    ],
};

/// Greedy clients beside a witness pair, whose latency it is, before them and meanwhile. Only ours:
/// another broker would have to be bounded in the same way to compare.
fn greedy(name: &'static str, about: &'static str, load: &'static str) -> Pattern {
    use Metric::{P50, P50Before, P99, P99Before, PeakMemory};
    let reported = |metric| (metric, Target::Report);
    Pattern {
        contenders: vec![Contender::Dev(None)],
        takes_publishers: load.contains("--pubs"),
        checks: [PeakMemory, P50Before, P50, P99Before, P99].map(reported).into(),
        ..with_mosquitto(name, about, load, reported(PeakMemory))
    }
}

/// All of them, in the table's order.
pub(crate) fn patterns() -> Vec<Pattern> {
    use Metric::{ConnectCpu, ConnectionBytes, Cpu, P50, P99, Syscalls};
    use Target::{AtMost, Report, ReportPerMessage, TimesAtMost, TimesLess};
    let pair = "--scenario pair --pubs 50 --subs 50";
    let mut unbatched = with_mosquitto(
        "unbatched",
        "20 -> 20 at 5,000 messages a second, QoS 0: CPU and p99 no worse, at most 5 system calls",
        "--scenario pair --pubs 20 --subs 20 --rate 5000",
        (Cpu, TimesAtMost(1.0)),
    );
    unbatched.checks.extend([(P50, Report), (P99, TimesAtMost(1.0)), (Syscalls, AtMost(5.0))]);
    unbatched.count_syscalls = true;
    let mut churn = with_mosquitto(
        "churn",
        "50 -> 50 pairs, QoS 0, beside 500 SUBSCRIBE and UNSUBSCRIBE a second",
        pair,
        (Cpu, Report),
    );
    churn.churn_per_second = 500;
    vec![
        with_mosquitto(
            "qos0",
            "50 -> 50 pairs, QoS 0: 22 times less CPU",
            pair,
            (Cpu, TimesLess(22.0)),
        ),
        with_mosquitto(
            "qos1",
            "50 -> 50 pairs, QoS 1: 18 times less CPU",
            "--scenario pair --pubs 50 --subs 50 --qos 1",
            (Cpu, TimesLess(18.0)),
        ),
        with_mosquitto(
            "qos2",
            "50 -> 50 pairs, QoS 2: 22 times less CPU",
            "--scenario pair --pubs 50 --subs 50 --qos 2",
            (Cpu, TimesLess(22.0)),
        ),
        with_mosquitto(
            "fanout",
            "1 -> 500, window 200: 40 times less CPU",
            "--scenario fanout --pubs 1 --subs 500 --window 200",
            (Cpu, TimesLess(40.0)),
        ),
        with_mosquitto(
            "fanin",
            "500 -> 1, window 50: 15 times less CPU",
            "--scenario fanin --pubs 500 --subs 1 --window 50",
            (Cpu, TimesLess(15.0)),
        ),
        unbatched,
        with_mosquitto(
            "idle",
            "10,000 idle connections with a subscription each: at most 5 KB of each",
            "--scenario idle --subs 10000",
            (ConnectionBytes, AtMost(5120.0)),
        ),
        with_mosquitto(
            "connect",
            "CONNECT, CONNACK, DISCONNECT: at most 1.3 times the CPU",
            "--scenario connect",
            (ConnectCpu, TimesAtMost(1.3)),
        ),
        between(
            "created",
            "50 -> 50 pairs, QoS 0, passwords and 100 rules, default workers: at most 10 % more than --dev",
            pair,
            [RULES_ONLY, Contender::Dev(None)],
            TimesAtMost(1.1),
        ),
        between(
            "created-qos1",
            "the same at QoS 1",
            "--scenario pair --pubs 50 --subs 50 --qos 1",
            [RULES_ONLY, Contender::Dev(None)],
            TimesAtMost(1.1),
        ),
        between(
            "workers2",
            "50 -> 50 pairs, QoS 0, an odd number of subscribers: each pair is on two of two workers",
            "--scenario pair --pubs 50 --subs 51",
            [Contender::Dev(Some(2)), Contender::Dev(Some(1))],
            Report,
        ),
        with_mosquitto(
            "topics1000",
            "50 -> 50 pairs, QoS 0, with 1,000 topics and subscriptions of each",
            "--scenario pair --pubs 50 --subs 50 --topics 1000",
            (Cpu, Report),
        ),
        churn,
        greedy(
            "slow-reader",
            "1,000 publishers at full speed, 1 KiB, QoS 0, to one that never reads and one that is slow: peak memory, the latency of others",
            "--scenario slow-reader --pubs 1000 --size 1024",
        ),
        greedy(
            "slow-reader-qos1",
            "the same at QoS 1, with 16 KiB messages",
            "--scenario slow-reader --pubs 1000 --size 16384 --qos 1",
        ),
        greedy(
            "retained",
            "100,000 retained messages to one subscriber, three times in turn: the latency of others",
            "--scenario retained --topics 100000 --subs 3",
        ),
        between(
            "own-topics",
            "50 -> 50 pairs, QoS 0, own-topics enforcing with its decision cached: at most 15 % more",
            "--scenario pair --pubs 50 --subs 50 --own-topics",
            [OWN_TOPICS, RULES_ONLY],
            TimesAtMost(1.15),
        ),
        between(
            "json-stamp",
            "50 -> 50 pairs, QoS 0, json-stamp on every message: its cost",
            "--scenario pair --pubs 50 --subs 50 --json-payload",
            [JSON_STAMP, RULES_ONLY],
            ReportPerMessage,
        ),
    ]
}
