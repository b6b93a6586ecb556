//! What kind of world a seed makes: how many of what, how small the bounds, how often what happens.
//! What must not live here: the run itself.

use wasmqtt_core::action::AccessStep;
use wasmqtt_core::limits::{Limits, QueuePolicy, RetainedLimits};
use wasmqtt_core::reason::Version;
use wasmqtt_core::router::{GroupRule, Strategy};

use crate::hooks::Judge;
use crate::rng::Rng;

const TOPICS: &[&str] =
    &["a", "a/b", "a/b/c", "b", "b/c", "a/", "h/a", "h/b", "h/a/b", "$s/a", "$s/b"];

const FILTERS: &[&str] = &[
    "#", "+", "a/#", "a/+", "+/b", "a/b", "a", "b", "a/b/c", "+/b/#", "h/#", "h/+", "h/a", "$s/#",
    "$s/+", "+/+", "/+", "b/c", "a/b/c", "h/b",
];

/// Filters of Shared Subscriptions.
pub(crate) const SHARED: &[&str] = &[
    "$share/g/#",
    "$share/g/a/+",
    "$share/g/a/b",
    "$share/other/#",
    "$share/other/a/b",
    "$share/g/h/#",
    "$share/g/+",
];

/// Subscription Identifiers of Shared Subscriptions are this and above; of others below.
const SHARED_IDENTIFIER: u32 = 100;

/// The Subscription Identifier that goes with a filter of [`SHARED`], also on 3.1.1: the workers
/// do not mind, and a delivery then tells what it is for.
pub(crate) const fn identifier_of_shared(group: usize) -> u32 {
    SHARED_IDENTIFIER + group as u32
}

/// The filter of [`SHARED`] that a Subscription Identifier goes with.
pub(crate) fn shared_by_identifier(identifier: u32) -> Option<usize> {
    identifier.checked_sub(SHARED_IDENTIFIER).map(|group| group as usize)
}

/// One client of a run.
#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    /// Empty: the broker assigns one at each connection.
    pub(crate) id: String,
    pub(crate) version: Version,
    /// Session Expiry Interval that it mostly asks for; 0: sessions end with connections.
    pub(crate) expiry_seconds: u32,
    /// How often it starts clean.
    pub(crate) clean_percent: u32,
    /// Longer payloads do not reach it (Maximum Packet Size).
    pub(crate) payload_bytes_max: usize,
    /// How often it acknowledges when it could.
    pub(crate) ack_percent: u32,
    /// How often it sends what it should not.
    pub(crate) nonsense_percent: u32,
    pub(crate) keep_alive_seconds: u16,
    /// How often it authenticates by an exchange of AUTH packets.
    pub(crate) exchange_percent: u32,
}

/// How often a kind of step is taken, relative to the others.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    pub(crate) act: u32,
    pub(crate) read: u32,
    pub(crate) hand: u32,
    pub(crate) mail: u32,
    pub(crate) hook: u32,
    pub(crate) store: u32,
    pub(crate) writable: u32,
    pub(crate) close: u32,
    pub(crate) flush: u32,
    pub(crate) time: u32,
    pub(crate) settle: u32,
    pub(crate) late: u32,
    pub(crate) kick: u32,
    pub(crate) replay: u32,
}

/// What a client does, relative to its other actions.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    pub(crate) publish: u32,
    pub(crate) subscribe: u32,
    pub(crate) unsubscribe: u32,
    pub(crate) reconnect: u32,
    pub(crate) drop: u32,
    pub(crate) disconnect: u32,
    pub(crate) authenticate: u32,
}

/// A world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) workers: u16,
    pub(crate) steps: usize,
    pub(crate) limits: Limits,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) topics: Vec<&'static str>,
    pub(crate) filters: Vec<&'static str>,
    /// Of [`SHARED`]: those that clients subscribe to.
    pub(crate) groups: Vec<usize>,
    pub(crate) strategies: Vec<GroupRule>,
    pub(crate) judge: Judge,
    /// Hooks that answer later.
    pub(crate) park_percent: u32,
    pub(crate) auth_park_percent: u32,
    pub(crate) auth_deny_percent: u32,
    pub(crate) commit_fail_percent: u32,
    /// Runs of events that end with a flush at once.
    pub(crate) flush_percent: u32,
    /// Connections whose socket takes only a few packets.
    pub(crate) narrow_percent: u32,
    pub(crate) retain_percent: u32,
    pub(crate) expiry_percent: u32,
    pub(crate) big_percent: u32,
    pub(crate) will_percent: u32,
    pub(crate) delay_percent: u32,
    pub(crate) weights: Weights,
    pub(crate) habits: Habits,
    /// Milliseconds that a step of time takes at most.
    pub(crate) time_step_ms: u64,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let rng = &mut Rng::new(seed ^ 0x7363_656e_6172_696f);
        let clients = 2 + rng.below(4);
        let clients = (0..clients).map(|index| client(rng, index)).collect();
        let plugins = rng.below(3) as u16 + 1;
        let commit_fail_percent = rng.pick(&[0, 0, 0, 5, 20]);
        Self {
            workers: rng.pick(&[1, 1, 2, 2, 3, 4]),
            steps: rng.pick(&[100, 300, 600, 1000]),
            limits: limits(rng),
            clients,
            topics: some(rng, TOPICS, &[1, 2, 4, 11]),
            filters: some(rng, FILTERS, &[2, 5, 20]),
            groups: (0..rng.pick(&[0, 0, 1, 2, 4])).map(|_| rng.below(SHARED.len())).collect(),
            strategies: strategies(rng),
            judge: Judge {
                seed,
                access: (0..plugins).map(AccessStep::Plugin).collect(),
                deny_percent: rng.pick(&[0, 0, 5, 15]),
                chain: rng.chance(60),
            },
            park_percent: rng.pick(&[0, 0, 20, 70]),
            auth_park_percent: rng.pick(&[0, 30, 80]),
            auth_deny_percent: rng.pick(&[0, 0, 10]),
            commit_fail_percent,
            flush_percent: rng.pick(&[100, 70, 30]),
            narrow_percent: rng.pick(&[0, 0, 30, 80]),
            retain_percent: rng.pick(&[0, 10, 40]),
            expiry_percent: rng.pick(&[0, 0, 30]),
            big_percent: rng.pick(&[0, 0, 10]),
            will_percent: rng.pick(&[0, 20, 60]),
            // The model does not know when a delayed message is tried again whose commit failed.
            delay_percent: if commit_fail_percent == 0 { rng.pick(&[0, 10, 30]) } else { 0 },
            weights: weights(rng),
            habits: habits(rng),
            time_step_ms: rng.pick(&[200, 2_000, 10_000]),
        }
    }
}

fn some(rng: &mut Rng, from: &[&'static str], sizes: &[usize]) -> Vec<&'static str> {
    (0..rng.pick(sizes)).map(|_| rng.pick(from)).collect()
}

fn strategies(rng: &mut Rng) -> Vec<GroupRule> {
    const ALL: &[Strategy] = &[
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::Sticky,
        Strategy::HashClient,
        Strategy::HashTopic,
        Strategy::LeastInFlight,
    ];
    let mut rule =
        |group: &str| GroupRule { group: group.into(), filter: None, strategy: rng.pick(ALL) };
    vec![rule("g"), rule("*")]
}

fn client(rng: &mut Rng, index: usize) -> ClientPlan {
    let version = if rng.chance(40) { Version::V311 } else { Version::V5 };
    let is_assigned = rng.chance(6);
    let expiry_seconds = match version {
        _ if is_assigned => 0,
        Version::V31 | Version::V311 => u32::MAX,
        Version::V5 => rng.pick(&[0, 5, 20, 100, u32::MAX, u32::MAX]),
    };
    ClientPlan {
        id: if is_assigned { String::new() } else { format!("client{index}") },
        version,
        expiry_seconds,
        clean_percent: if is_assigned { 100 } else { rng.pick(&[0, 10, 10, 50]) },
        payload_bytes_max: rng.pick(&[usize::MAX, usize::MAX, 60]),
        ack_percent: rng.pick(&[100, 100, 60, 15, 0]),
        nonsense_percent: rng.pick(&[0, 0, 5]),
        keep_alive_seconds: rng.pick(&[0, 0, 0, 30]),
        exchange_percent: if version == Version::V5 { rng.pick(&[0, 0, 30, 100]) } else { 0 },
    }
}

fn limits(rng: &mut Rng) -> Limits {
    Limits {
        inflight_max: rng.pick(&[1, 2, 5, 20]),
        receive_maximum: rng.pick(&[1, 3, 10, 20]),
        queue_messages_max: rng.pick(&[2, 5, 1000, 1000]),
        queue_bytes_max: rng.pick(&[500, 1 << 20, 1 << 20]),
        queue_policy: rng.pick(&[
            QueuePolicy::DropOldest,
            QueuePolicy::DropNewest,
            QueuePolicy::Disconnect,
        ]),
        replay_messages_max: rng.pick(&[1, 2, 100]),
        replay_bytes_max: rng.pick(&[1, 300, 1 << 20]),
        replay_places_max: rng.pick(&[1, 3, 1000]),
        line_messages_max: rng.pick(&[2, 4, 100]),
        line_bytes_max: rng.pick(&[400, 1 << 20]),
        subscribes_pending_max: rng.pick(&[1, 2, 16]),
        subscriptions_max: rng.pick(&[3, 100, 100]),
        sessions_max: rng.pick(&[2, 1000, 1000, 1000]),
        session_expiry_seconds_max: rng.pick(&[10, u32::MAX, u32::MAX]),
        keep_alive_seconds_max: rng.pick(&[0, 0, 60]),
        exchange_timeout_seconds: rng.pick(&[2, 10, 1000]),
        write_timeout_seconds: rng.pick(&[5, 30, 1000]),
        routes_max: rng.pick(&[1, 3, 100]),
        decisions_max: rng.pick(&[1, 2, 100]),
        timers_spare: rng.pick(&[0, 1000]),
        retained: RetainedLimits { messages_max: 1000, bytes_max: 1 << 20 },
        ..Limits::default()
    }
}

fn weights(rng: &mut Rng) -> Weights {
    let slow = [1, 3, 10, 30];
    Weights {
        act: rng.pick(&[10, 20]),
        read: rng.pick(&[5, 15, 25]),
        hand: rng.pick(&[15, 25]),
        mail: rng.pick(&slow),
        hook: rng.pick(&slow),
        store: rng.pick(&slow),
        writable: rng.pick(&[2, 10]),
        close: rng.pick(&[1, 5]),
        flush: rng.pick(&[2, 10]),
        time: rng.pick(&[1, 2]),
        settle: rng.pick(&[0, 1, 3]),
        late: rng.pick(&[0, 1, 2]),
        kick: u32::from(rng.chance(10)),
        replay: rng.pick(&slow),
    }
}

fn habits(rng: &mut Rng) -> Habits {
    Habits {
        publish: rng.pick(&[20, 40]),
        subscribe: rng.pick(&[3, 10]),
        unsubscribe: rng.pick(&[0, 2, 5]),
        reconnect: rng.pick(&[0, 2, 6]),
        drop: rng.pick(&[0, 2, 5]),
        disconnect: rng.pick(&[0, 1, 3]),
        authenticate: rng.pick(&[1, 5]),
    }
}
