//! From an accepted socket to a CONNECT that the worker has: every layer of the listener's
//! transport, then the first packet, all within one time.
//! What must not live here: packets after CONNECT (`connection`), where sockets come from
//! (`listener`).

use std::rc::Rc;
use std::sync::Arc;

use ntex::codec::Decoder;
use ntex::io::{Base, Io, Sealed};
use ntex::util::{BytesMut, Either};
use wasmqtt_core::ids::TenantId;
use wasmqtt_core::reason::{ReasonCode, Version};

use crate::clock;
use crate::config::listener::Transport;
use crate::worker_loop::WorkerCell;

use super::decode::{self, Origin};
use super::encode;
use super::frame;
use super::link::{Conn, Link};
use super::listener::{Gate, Peer};
use super::socket::Socket;

/// A connection after its first packet; without a link if it was refused, and is to be closed when
/// its last bytes have left. Layers of the transport are behind one type: nobody asks for more of
/// them than bytes, and each type would bring a copy of all the code.
pub(crate) enum Opened {
    /// MQTT on the socket itself.
    Plain(Io<Base>, Option<Link>),
    /// MQTT on something that is on the socket.
    #[expect(dead_code, reason = "every transport of the configuration is on the socket itself")]
    Layered(Io<Sealed>, Option<Link>),
}

/// Opens every layer and reads CONNECT, within the listener's time.
pub(crate) async fn open(
    socket: Socket,
    peer: Peer,
    gate: &Gate,
    worker: &Rc<WorkerCell>,
) -> Option<Opened> {
    let timeout = ntex::time::Seconds(gate.connect_timeout_seconds);
    let io = Io::new(socket, worker.stream_config());
    match ntex::time::timeout(timeout, layers(io, peer, gate, worker)).await {
        Ok(opened) => opened,
        Err(()) => {
            tracing::debug!(listener = &*gate.name, "closed: no CONNECT in time");
            None
        }
    }
}

async fn layers(io: Io<Base>, peer: Peer, gate: &Gate, worker: &Rc<WorkerCell>) -> Option<Opened> {
    let origin = Origin {
        tenant: TenantId::DEFAULT,
        tenant_name: "default".into(),
        listener: Arc::clone(&gate.name),
        peer: peer.to_string().into(),
    };
    match gate.transport {
        Transport::Tcp => {
            let link = connect(&io, worker, origin).await;
            Some(Opened::Plain(io, link))
        }
    }
}

/// Reads CONNECT and hands it to the worker.
async fn connect<F>(io: &Io<F>, worker: &Rc<WorkerCell>, origin: Origin) -> Option<Link> {
    let first = First { bytes_max: worker.packet_bytes_max() };
    match io.recv(&first).await {
        Ok(Some((version, bytes))) => {
            let frame = frame::cut(&bytes, u32::MAX).ok().flatten()?;
            match decode::connect(frame, version, origin) {
                Ok((connect, terms)) => {
                    let link = Conn::new(io.get_ref(), terms);
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
            Some(_) => return Err((None, ReasonCode::ProtocolError)), // [MQTT-3.1.0-1]
            None => return Ok(None),
        }
        let frame = frame::cut(source, self.bytes_max).map_err(|code| (None, code))?;
        let Some(frame) = frame else { return Ok(None) };
        let version = frame::connect_version(frame).map_err(|code| {
            // [MQTT-3.1.2-2]: answered in the words of the newest version that may be meant.
            let is_3 = frame.body.get(6).is_none_or(|level| *level < 5) || frame.body[1] == 6;
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
