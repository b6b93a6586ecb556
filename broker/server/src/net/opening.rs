//! From an accepted socket to a CONNECT that the worker has: every layer of the listener's
//! transport, then the first packet, all within one time.
//! What must not live here: packets after CONNECT (`connection`), where sockets come from
//! (`listener`).

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use ntex::codec::Decoder;
use ntex::io::{Base, Filter, Io, Sealed};
use ntex::util::{BytesMut, Either};
use wasmqtt_core::ids::TenantId;
use wasmqtt_core::reason::{ReasonCode, Version};
use wasmqtt_core::router::traffic::Count;

use crate::clock;
use crate::config::listener::{Transport, WebSocket};
use crate::worker_loop::WorkerCell;

use super::decode::{self, Origin};
use super::encode;
use super::frame;
use super::link::{Conn, Link};
use super::listener::{Peer, Seat};
use super::proxy::{Header, NotAHeader, Origin as ProxyOrigin};
use super::socket::{End, Socket};
use super::tls::{self, Failure};
use super::ws::{filter, upgrade};

/// A connection after its first packet; without a link if it was refused, and is to be closed when
/// its last bytes have left. Layers of the transport are behind one type: nobody asks for more of
/// them than bytes, and each type would bring a copy of all the code.
pub(crate) enum Opened {
    /// MQTT on the socket itself.
    Plain(Io<Base>, Option<Link>),
    /// MQTT on something that is on the socket.
    Layered(Io<Sealed>, Option<Link>),
}

/// Opens every layer and reads CONNECT, within the listener's time.
pub(crate) async fn open(
    socket: Socket,
    peer: Peer,
    seat: &Seat,
    worker: &Rc<WorkerCell>,
) -> Option<Opened> {
    let gate = &*seat.gate;
    let timeout = ntex::time::Seconds(gate.connect_timeout_seconds);
    let end = socket.end();
    let is_layered = gate.tls.is_some() || !matches!(gate.transport, Transport::Tcp);
    let io = Io::new(socket, worker.stream_config(is_layered));
    let mut layers = pin!(layers(io, peer, seat, worker, &end));
    // All that came is taken before the end counts: if more is needed then, it does not come.
    let opened = poll_fn(|cx| {
        let polled = layers.as_mut().poll(cx);
        if polled.is_pending() && end.is_here() { Poll::Ready(None) } else { polled }
    });
    match ntex::time::timeout(timeout, opened).await {
        Ok(opened) => opened,
        Err(()) => {
            tracing::debug!(listener = &*gate.name, "closed: no CONNECT in time");
            None
        }
    }
}

async fn layers(
    io: Io<Base>,
    mut peer: Peer,
    seat: &Seat,
    worker: &Rc<WorkerCell>,
    end: &Rc<End>,
) -> Option<Opened> {
    let gate = &*seat.gate;
    if gate.trusted_proxies.iter().any(|source| source.has(peer.ip())) {
        peer = behind_proxy(&io, peer, &gate.name).await?;
    }
    if !seat.take_address(peer) {
        tracing::debug!(%peer, listener = &*gate.name, "refused: too many connections of one address");
        return None;
    }
    let mut origin = Origin {
        tenant: TenantId::DEFAULT,
        tenant_name: "default".into(),
        listener: Arc::clone(&gate.name),
        peer: peer.to_string().into(),
        tls: None,
    };
    let Some(certificates) = &gate.tls else {
        return Some(match &gate.transport {
            Transport::Tcp => {
                let link = connect(&io, worker, origin).await;
                Opened::Plain(io, link)
            }
            Transport::WebSocket(terms) => web_socket(io, worker, origin, terms, end).await,
        });
    };
    match tls::accept(io, certificates.current(), end).await {
        Ok(io) => {
            origin.tls = Some(Box::new(io.filter().facts()));
            Some(match &gate.transport {
                Transport::Tcp => {
                    let link = connect(&io, worker, origin).await;
                    Opened::Layered(io.seal(), link)
                }
                Transport::WebSocket(terms) => web_socket(io, worker, origin, terms, end).await,
            })
        }
        Err(failure) => {
            let (listener, peer) = (&*gate.name, &*origin.peer);
            match failure {
                Failure::Gone => tracing::debug!(peer, listener, "no TLS: {failure}"),
                Failure::Tls(_) => tracing::info!(peer, listener, "no TLS: {failure}"),
            }
            None
        }
    }
}

/// The upgrade, then CONNECT in frames.
async fn web_socket<F: Filter>(
    io: Io<F>,
    worker: &Rc<WorkerCell>,
    origin: Origin,
    terms: &WebSocket,
    end: &Rc<End>,
) -> Opened {
    match io.recv(&upgrade::Request::new(terms)).await {
        Ok(Some(granted)) => {
            // A stream that takes nothing more has no CONNECT either.
            let _ = io.encode_slice(granted.response.as_bytes());
            let io = filter::add(io, end).await;
            let link = connect(&io, worker, origin).await;
            Opened::Layered(io.seal(), link)
        }
        Err(Either::Left(refused)) => {
            let (listener, peer) = (&*origin.listener, &*origin.peer);
            tracing::debug!(peer, listener, "no WebSocket: {}", refused.text);
            let _ = io.encode_slice(refused.response().as_bytes());
            Opened::Layered(io.seal(), None)
        }
        Ok(None) | Err(Either::Right(_)) => Opened::Layered(io.seal(), None),
    }
}

/// Whom a trusted proxy speaks for; it must say so.
async fn behind_proxy(io: &Io<Base>, proxy: Peer, listener: &str) -> Option<Peer> {
    match io.recv(&Header).await {
        Ok(Some(ProxyOrigin::Address(address))) => Some(Peer::at(address)),
        Ok(Some(ProxyOrigin::Unix)) => Some(Peer::Unix),
        Ok(Some(ProxyOrigin::Proxy)) => Some(proxy),
        Err(Either::Left(NotAHeader)) => {
            tracing::info!(%proxy, listener, "refused: no PROXY header from a trusted proxy");
            None
        }
        Ok(None) | Err(Either::Right(_)) => None,
    }
}

/// Reads CONNECT and hands it to the worker.
async fn connect<F>(io: &Io<F>, worker: &Rc<WorkerCell>, origin: Origin) -> Option<Link> {
    let first = First { bytes_max: worker.packet_bytes_max() };
    match io.recv(&first).await {
        Ok(Some((version, bytes))) => {
            let frame = frame::cut(&bytes, u32::MAX).ok().flatten()?;
            let traffic = worker.traffic(origin.tenant);
            traffic.add(Count::PacketsReceived, 1);
            traffic.add(Count::BytesReceived, bytes.len() as u64);
            match decode::connect(frame, version, origin) {
                Ok((connect, mut terms)) => {
                    let aliases_max = worker.topic_aliases_max();
                    terms.topic_aliases_max = terms.topic_aliases_max.min(aliases_max);
                    let link = Conn::new(io.get_ref(), terms, traffic);
                    let now = clock::now();
                    let slot = worker.connect(now, Rc::clone(&link), connect);
                    link.slot.set(slot);
                    worker.end_turn(now);
                    Some(link)
                }
                Err(code) => {
                    refuse(io, version, code);
                    None
                }
            }
        }
        Err(Either::Left((version, code))) => {
            if let Some(version) = version {
                refuse(io, version, code);
            }
            None
        }
        Ok(None) | Err(Either::Right(_)) => None,
    }
}

fn refuse<F>(io: &Io<F>, version: Version, code: ReasonCode) {
    tracing::debug!(code = code.text(), "CONNECT refused");
    let is_malformed = matches!(code, ReasonCode::MalformedPacket | ReasonCode::ProtocolError);
    if version.is_v5() || !is_malformed {
        let mut connack = Vec::new();
        encode::connack_refused(&mut connack, version, code);
        let _ = io.encode_slice(&connack);
    }
}

/// What somebody seems to want who does not begin with CONNECT.
fn not_connect(bytes: &[u8]) -> &'static str {
    match bytes {
        [0x16, 0x03, ..] => "the client speaks TLS, this listener does not",
        [b'P', b'R', b'O', b'X', ..] | [b'\r', b'\n', b'\r', b'\n', ..] => {
            "a PROXY header from an address that is not in `trusted_proxies`"
        }
        [b'G', b'E', b'T', ..] => "the client speaks HTTP, this listener does not",
        _ => "the first packet is not a CONNECT",
    }
}

/// Cuts the first frame, which must be CONNECT, decided from its first byte.
struct First {
    bytes_max: u32,
}

impl Decoder for First {
    type Item = (Version, ntex::util::Bytes);
    type Error = (Option<Version>, ReasonCode);

    fn decode(&self, source: &mut BytesMut) -> Result<Option<Self::Item>, Self::Error> {
        match source.first() {
            Some(0x10) => {}
            Some(_) => {
                tracing::debug!("closed: {}", not_connect(source));
                return Err((None, ReasonCode::ProtocolError)); // [MQTT-3.1.0-1]
            }
            None => return Ok(None),
        }
        let frame = frame::cut(source, self.bytes_max).map_err(|code| (None, code))?;
        let Some(frame) = frame else { return Ok(None) };
        let version = frame::connect_version(frame).map_err(|code| {
            // [MQTT-3.1.2-2]: answered in the words of the newest version that may be meant.
            let is_3 =
                frame.body.get(6).is_none_or(|level| *level & 0x7f < 5) || frame.body[1] == 6;
            let known = (code == ReasonCode::UnsupportedProtocolVersion).then_some(if is_3 {
                Version::V311
            } else {
                Version::V5
            });
            (known, code)
        })?;
        let length = frame.bytes.len();
        Ok(Some((version, source.split_to(length))))
    }
}
