//! A case: one behaviour, on one protocol version, with names that no other case uses.
//! What must not live here: packets or processes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::broker::Broker;
use super::client::Client;
use super::packet::{Connack, Connect};
use super::stream::Endpoint;
use super::wire::Version;

/// Where a case runs: a broker, a version and a prefix of its own for topics and client ids.
pub(crate) struct Case<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) version: Version,
    endpoint: Endpoint,
    prefix: String,
}

/// Runs the case for 3.1.1 and for 5 on one throw-away broker.
#[track_caller]
pub(crate) fn both(case: impl Fn(&Case<'_>)) {
    each(&Broker::dev(), case);
}

/// Runs the case for 3.1.1 and for 5 on that broker.
#[track_caller]
pub(crate) fn each(broker: &Broker, case: impl Fn(&Case<'_>)) {
    Case::run(broker, Version::V3, &case);
    Case::run(broker, Version::V5, &case);
}

/// Runs a case that only 3.1.1 knows.
#[track_caller]
pub(crate) fn v3(case: impl Fn(&Case<'_>)) {
    Case::run(&Broker::dev(), Version::V3, &case);
}

/// Runs a case that only MQTT 5 knows.
#[track_caller]
pub(crate) fn v5(case: impl Fn(&Case<'_>)) {
    Case::run(&Broker::dev(), Version::V5, &case);
}

impl<'a> Case<'a> {
    /// Runs `case` and says on which version it failed.
    pub(crate) fn run(broker: &'a Broker, version: Version, case: &dyn Fn(&Case<'_>)) {
        struct Told(Version);
        impl Drop for Told {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!("failed on {:?}", self.0);
                }
            }
        }
        let _told = Told(version);
        case(&Self::new(broker, version));
    }

    pub(crate) fn new(broker: &'a Broker, version: Version) -> Self {
        static CASES: AtomicU64 = AtomicU64::new(0);
        let number = CASES.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("c{}n{number}", std::process::id());
        Self { broker, version, endpoint: broker.endpoint(), prefix }
    }

    /// The case on another listener of its broker.
    pub(crate) fn at(broker: &'a Broker, version: Version, endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.clone(), ..Self::new(broker, version) }
    }

    /// The case's own client identifier of that name.
    pub(crate) fn client_id(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The case's own topic (or filter) of that name.
    pub(crate) fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// The CONNECT of a client of that name.
    pub(crate) fn connect(&self, name: &str) -> Connect {
        Connect::new(self.version, &self.client_id(name))
    }

    /// Connects, successfully, with a fresh session.
    #[track_caller]
    pub(crate) fn client(&self, name: &str) -> Client {
        self.open(&self.connect(name))
    }

    /// Connects, successfully.
    #[track_caller]
    pub(crate) fn open(&self, connect: &Connect) -> Client {
        self.open_with(connect).0
    }

    /// Connects, successfully, and shows the CONNACK too.
    #[track_caller]
    pub(crate) fn open_with(&self, connect: &Connect) -> (Client, Connack) {
        let (client, connack) = self.try_open(connect);
        assert_eq!(connack.code, 0, "{connack:?}");
        (client, connack)
    }

    /// Connects and shows the CONNACK, whatever it says.
    #[track_caller]
    pub(crate) fn try_open(&self, connect: &Connect) -> (Client, Connack) {
        Client::try_connect(&self.endpoint, connect)
    }

    /// A connection on which nothing was sent yet.
    pub(crate) fn dial(&self) -> Client {
        Client::dial(&self.endpoint, self.version)
    }

    /// A client of that name that subscribes to the case's own filter.
    #[track_caller]
    pub(crate) fn subscriber(&self, name: &str, filter: &str, options: u8) -> Client {
        let mut client = self.client(name);
        client.subscribe(&self.topic(filter), options);
        client
    }
}
