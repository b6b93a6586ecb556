//! Listeners: sockets that connections come in by, and whose worker gets which connection.
//! What must not live here: what a connection says.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use wasmqtt_core::time::Millis;

use crate::certificates::Certificates;
use crate::clock;
use crate::config::Config;
use crate::config::listener::{Bind, Listener, Source, Transport};
use crate::mailbox::{Letter, Mailbox};

use super::bind::{self, ListeningSocket};

/// How long accepting rests when the system has no files or memory left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What a listener asks of its connections, and how many it has.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The listener's name.
    pub(crate) name: Arc<str>,
    /// What MQTT is carried by.
    pub(crate) transport: Transport,
    /// On a Unix socket.
    is_unix: bool,
    /// For TLS below it.
    pub(crate) tls: Option<Arc<Certificates>>,
    /// From accept to a whole CONNECT.
    pub(crate) connect_timeout_seconds: u16,
    /// Who says for whom it speaks.
    pub(crate) trusted_proxies: Vec<Source>,
    connections_max: u32,
    connect_rate_max: Option<u32>,
    by_address: Option<ByAddress>,
    connections: AtomicU32,
    /// Connections by worker, of all listeners.
    by_worker: Arc<[AtomicU32]>,
}

/// A connection's place on a listener and a worker, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) gate: Arc<Gate>,
    worker: usize,
    /// Where it is counted too, if the listener counts by address.
    network: OnceCell<IpAddr>,
}

impl Seat {
    /// Counts the connection to its address; whether that may have one more.
    pub(crate) fn take_address(&self, peer: Peer) -> bool {
        let (Some(by_address), Some(ip)) = (&self.gate.by_address, peer.ip()) else { return true };
        by_address.enter(network(ip)) && self.network.set(network(ip)).is_ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let (Some(by_address), Some(network)) = (&self.gate.by_address, self.network.get()) {
            by_address.leave(*network);
        }
        self.gate.by_worker[self.worker].fetch_sub(1, Ordering::AcqRel);
        self.gate.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Gate {
    /// A place on the worker that has the fewest; none when the listener is full.
    fn seat(self: &Arc<Self>) -> Option<Seat> {
        if self.connections() >= self.connections_max {
            return None;
        }
        let count = |(_, worker): &(usize, &AtomicU32)| worker.load(Ordering::Acquire);
        let (worker, connections) = self.by_worker.iter().enumerate().min_by_key(count)?;
        connections.fetch_add(1, Ordering::AcqRel);
        self.connections.fetch_add(1, Ordering::AcqRel);
        Some(Seat { gate: Arc::clone(self), worker, network: OnceCell::new() })
    }

    /// What a client is pointed at.
    fn url(&self, address: &str) -> String {
        let (scheme, path) = match (&self.transport, &self.tls) {
            (Transport::Tcp, None) => ("mqtt", ""),
            (Transport::Tcp, Some(_)) => ("mqtts", ""),
            (Transport::WebSocket(terms), None) => ("ws", &*terms.path),
            (Transport::WebSocket(terms), Some(_)) => ("wss", &*terms.path),
        };
        if self.is_unix {
            // A path behind a path would be taken for a part of it.
            return format!("{scheme}+unix://{address}");
        }
        format!("{scheme}://{address}{path}")
    }

    /// Its connections.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Acquire)
    }
}

/// What is counted as one address: who has an IPv6 address has a network of 64 bits of them.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

/// Connections by address; as many addresses as connections.
#[derive(Debug)]
struct ByAddress {
    most: u32,
    counts: Mutex<HashMap<IpAddr, u32>>,
}

impl ByAddress {
    fn new(most: u32) -> Self {
        Self { most, counts: Mutex::default() }
    }

    fn enter(&self, network: IpAddr) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network).or_default();
        let has_room = *count < self.most;
        *count += u32::from(has_room);
        has_room
    }

    fn leave(&self, network: IpAddr) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// A token bucket: so many a second, and as many at once after a quiet second.
#[derive(Debug)]
struct Rate {
    most: u32,
    /// Thousandths of what may be taken.
    thousandths: u64,
    filled: Millis,
}

impl Rate {
    fn new(most: u32, now: Millis) -> Self {
        Self { most, thousandths: u64::from(most) * 1000, filled: now }
    }

    /// How long to wait until one may be taken; none if one may be at once.
    fn rest(&mut self, now: Millis) -> Option<Timespec> {
        let most = u64::from(self.most);
        let more = now.since(self.filled).saturating_mul(most);
        self.thousandths = self.thousandths.saturating_add(more).min(most * 1000);
        self.filled = now;
        let missing = 1000_u64.saturating_sub(self.thousandths);
        let milliseconds = missing.div_ceil(most);
        let wait = Duration::from_millis(milliseconds);
        (milliseconds > 0).then(|| Timespec::try_from(wait).unwrap_or_default())
    }

    fn take(&mut self) {
        self.thousandths = self.thousandths.saturating_sub(1000);
    }
}

/// A listener whose socket is open, before anything is accepted.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) gate: Arc<Gate>,
    /// As `mqtt://127.0.0.1:1883`.
    pub(crate) url: String,
    socket: ListeningSocket,
}

/// Opens a listener's socket.
///
/// # Errors
/// The address or the path can't be had.
pub(crate) fn bind(
    name: &Arc<str>,
    config: &Config,
    tls: Option<Arc<Certificates>>,
    by_worker: &Arc<[AtomicU32]>,
) -> anyhow::Result<Bound> {
    let listener = &config.listeners[name];
    let v6_only = has_ipv4_beside(config, listener);
    let socket = bind::open(listener, v6_only).with_context(|| format!("listener `{name}`"))?;
    if listener.bind.address().is_some_and(|address| address.ip() == Ipv6Addr::UNSPECIFIED) {
        let word = if v6_only { "IPv6 only: another listener has IPv4" } else { "IPv6 and IPv4" };
        tracing::info!(listener = &**name, "{} takes {word}", socket.shown);
    }
    let timeout = config.limits.connect_timeout_seconds;
    let gate = Gate {
        name: Arc::clone(name),
        transport: listener.transport.clone(),
        is_unix: matches!(listener.bind, Bind::Unix(_)),
        tls,
        trusted_proxies: listener.trusted_proxies.clone(),
        connect_timeout_seconds: listener.connect_timeout_seconds.unwrap_or(timeout),
        connections_max: listener.connections_max,
        connect_rate_max: listener.connect_rate_max,
        by_address: listener.connections_per_address_max.map(ByAddress::new),
        connections: AtomicU32::new(0),
        by_worker: Arc::clone(by_worker),
    };
    let url = gate.url(&socket.shown);
    Ok(Bound { gate: Arc::new(gate), url, socket })
}

/// Whether another listener has an IPv4 address with the port of this one.
fn has_ipv4_beside(config: &Config, listener: &Listener) -> bool {
    let Some(own) = listener.bind.address() else { return false };
    let mut others = config.listeners.values().filter_map(|other| other.bind.address());
    others.any(|other| own.port() != 0 && other.is_ipv4() && other.port() == own.port())
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// Somebody at an address; IPv4 is IPv4, also on a socket of IPv6.
    Ip(SocketAddr),
    /// Somebody on a Unix socket.
    Unix,
}

impl Peer {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::Ip(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Its address, if it has one.
    pub(crate) const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// A connection on its way to its worker.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    pub(crate) seat: Seat,
}

/// Accepts connections and hands them to the workers, until the other end of `stop` is closed.
///
/// # Errors
/// The socket can't be waited for.
pub(crate) fn accept(bound: &Bound, mailboxes: &[Mailbox], stop: &OwnedFd) -> io::Result<()> {
    let Bound { gate, socket, .. } = bound;
    let socket = &socket.socket;
    let mut rate = gate.connect_rate_max.map(|most| Rate::new(most, clock::now()));
    loop {
        let rest = rate.as_mut().and_then(|rate| rate.rest(clock::now()));
        if let Some(rest) = rest {
            // Meanwhile they wait with the system.
            let mut ready = [PollFd::new(stop, PollFlags::empty())];
            match rustix::event::poll(&mut ready, Some(&rest)) {
                Ok(0) | Err(Errno::INTR) => continue,
                result => return result.map(|_| ()).map_err(Into::into),
            }
        }
        let mut ready = [PollFd::new(socket, PollFlags::IN), PollFd::new(stop, PollFlags::empty())];
        match rustix::event::poll(&mut ready, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        if !ready[1].revents().is_empty() {
            return Ok(());
        }
        match rustix::net::acceptfrom_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok((socket, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                let peer = match peer {
                    _ if gate.is_unix => Peer::Unix,
                    Some(address) => Peer::at(address),
                    None => continue, // it was gone before it was accepted
                };
                if let Some(rate) = &mut rate {
                    rate.take();
                }
                let Some(seat) = gate.seat() else {
                    tracing::debug!(%peer, listener = &*gate.name, "refused: too many connections");
                    continue;
                };
                let mailbox = &mailboxes[seat.worker];
                mailbox.post(Letter::Accepted(Accepted { socket, peer, seat }));
            }
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                tracing::warn!(listener = &*gate.name, "can't accept connections: {error}");
                std::thread::sleep(EXHAUSTED);
            }
            // Somebody was faster, or the connection was gone before it was accepted.
            Err(error) => tracing::trace!(listener = &*gate.name, "accept: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmqtt_core::time::Millis;

    use super::{ByAddress, Rate, network};

    #[test]
    fn a_rate_lets_a_second_worth_through_at_once_and_then_so_many_a_second() {
        let mut rate = Rate::new(4, Millis(0));
        let mut taken_at = Vec::new();
        for now in 0..2000 {
            while rate.rest(Millis(now)).is_none() {
                rate.take();
                taken_at.push(now);
            }
        }
        let expected = [0, 0, 0, 0, 250, 500, 750, 1000, 1250, 1500, 1750];
        assert_eq!(taken_at, expected);
        assert_eq!(rate.rest(Millis(1999)).unwrap().tv_nsec, 1_000_000);
        for _ in 0..4 {
            assert!(rate.rest(Millis(100_000)).is_none());
            rate.take();
        }
        assert!(rate.rest(Millis(100_000)).is_some(), "no more than a second's worth is saved");
    }

    #[test]
    fn addresses_are_counted_each_and_ipv6_by_network() {
        let by_address = ByAddress::new(2);
        let at = |text: &str| network(text.parse().unwrap());
        assert!(by_address.enter(at("192.0.2.1")) && by_address.enter(at("192.0.2.1")));
        assert!(!by_address.enter(at("192.0.2.1")));
        assert!(by_address.enter(at("192.0.2.2")));
        assert!(by_address.enter(at("2001:db8::1")) && by_address.enter(at("2001:db8::2")));
        assert!(!by_address.enter(at("2001:db8::3")) && by_address.enter(at("2001:db8:0:1::1")));
        by_address.leave(at("192.0.2.1"));
        assert!(by_address.enter(at("192.0.2.1")));
        for address in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::9", "2001:db8::9"] {
            by_address.leave(at(address));
        }
        by_address.leave(at("2001:db8:0:1::9"));
        assert!(by_address.counts.lock().unwrap().is_empty(), "nothing is kept of who has left");
    }
}
