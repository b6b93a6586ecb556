//! Listeners: sockets that connections come in by, and whose worker gets which connection.
//! What must not live here: what a connection says.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::certificates::Certificates;
use crate::config::listener::{Listener, Transport};
use crate::mailbox::{Letter, Mailbox};

/// Connections that the system keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// How long accepting rests when the system has no files or memory left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What a listener asks of its connections, and how many it has.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The listener's name.
    pub(crate) name: Arc<str>,
    /// What MQTT is carried by.
    pub(crate) transport: Transport,
    /// For TLS below it.
    pub(crate) tls: Option<Arc<Certificates>>,
    /// From accept to a whole CONNECT.
    pub(crate) connect_timeout_seconds: u16,
    connections_max: u32,
    connections: AtomicU32,
    /// Connections by worker, of all listeners.
    by_worker: Arc<[AtomicU32]>,
}

/// A connection's place on a listener and a worker, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) gate: Arc<Gate>,
    worker: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
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
        Some(Seat { gate: Arc::clone(self), worker })
    }

    /// What a client is pointed at.
    pub(crate) fn url(&self, address: SocketAddr) -> String {
        match (&self.transport, &self.tls) {
            (Transport::Tcp, None) => format!("mqtt://{address}"),
            (Transport::Tcp, Some(_)) => format!("mqtts://{address}"),
            (Transport::WebSocket(terms), None) => format!("ws://{address}{}", terms.path),
            (Transport::WebSocket(terms), Some(_)) => format!("wss://{address}{}", terms.path),
        }
    }

    /// Its connections.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Acquire)
    }
}

/// A socket that listens, before anything is accepted.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) gate: Arc<Gate>,
    pub(crate) address: SocketAddr,
    socket: OwnedFd,
}

/// Opens a listener's socket.
///
/// # Errors
/// The address can't be had.
pub(crate) fn bind(
    name: &Arc<str>,
    listener: &Listener,
    tls: Option<Arc<Certificates>>,
    connect_timeout_seconds: u16,
    by_worker: &Arc<[AtomicU32]>,
) -> anyhow::Result<Bound> {
    let bind = listener.bind;
    let (socket, address) = open(bind)
        .with_context(|| format!("listener `{name}` can't listen on {bind}: is the port taken?"))?;
    let gate = Arc::new(Gate {
        name: Arc::clone(name),
        transport: listener.transport.clone(),
        tls,
        connect_timeout_seconds,
        connections_max: listener.connections_max,
        connections: AtomicU32::new(0),
        by_worker: Arc::clone(by_worker),
    });
    Ok(Bound { gate, address, socket })
}

fn open(bind: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let family = match bind {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Accepted sockets take it over: a message does not wait for the next.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &bind)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, address))
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |address| address.fmt(f))
    }
}

/// A connection on its way to its worker.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: TcpStream,
    pub(crate) peer: Peer,
    pub(crate) seat: Seat,
}

/// Accepts connections and hands them to the workers, until the other end of `stop` is closed.
///
/// # Errors
/// The socket can't be waited for.
pub(crate) fn accept(bound: &Bound, mailboxes: &[Mailbox], stop: &OwnedFd) -> io::Result<()> {
    let Bound { gate, socket, .. } = bound;
    loop {
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
                let peer = Peer(peer.and_then(|peer| SocketAddr::try_from(peer).ok()));
                let Some(seat) = gate.seat() else {
                    tracing::debug!(%peer, listener = &*gate.name, "refused: too many connections");
                    continue;
                };
                let mailbox = &mailboxes[seat.worker];
                let socket = TcpStream::from(socket);
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
