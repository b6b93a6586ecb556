//! One connection's task: CONNECT within its time, then packets as they come, back-pressure kept.
//! What must not live here: what packets do (the core) and how they look (`decode`, `encode`).

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use ntex::codec::Decoder;
use ntex::io::{Io, RecvError};
use ntex::util::{Buf, BytesMut, Either};
use wasmqtt_core::event::{Closed, Event};
use wasmqtt_core::ids::TenantId;
use wasmqtt_core::reason::{ReasonCode, Version};

use crate::clock;
use crate::worker_loop::WorkerCell;

use super::decode::{self, Origin, Terms};
use super::encode;
use super::frame::{self, packet_type};
use super::link::{Conn, Link};
use super::listener::Accepted;
use super::socket::Socket;

/// How long a closed connection may take to accept its last bytes.
const LAST_BYTES: ntex::time::Seconds = ntex::time::Seconds(2);

/// Bytes that wait for a client's socket beyond which nothing more is read from it. It is above the
/// bound where deliveries stop: a client that is slow to read may still acknowledge and ping.
const UNSENT_BYTES_MAX: usize = 512 * 1024;

/// Serves one connection until it ends.
pub(crate) async fn serve(accepted: Accepted, worker: Rc<WorkerCell>) {
    let Accepted { socket, peer, seat } = accepted;
    let io = match Socket::new(socket) {
        Ok(socket) => Io::new(socket, worker.stream_config()),
        Err(error) => return tracing::warn!("a connection can't be served: {error}"),
    };
    let origin = Origin {
        tenant: TenantId::DEFAULT,
        tenant_name: "default".into(),
        listener: Arc::clone(&seat.gate.name),
        peer: peer.map_or_else(String::new, |peer| peer.to_string()).into(),
    };
    let timeout = ntex::time::Seconds(seat.gate.connect_timeout_seconds);
    // What CONNECT needs should not stay for as long as the connection does.
    let connected = Box::pin(ntex::time::timeout(timeout, connect(&io, &worker, origin))).await;
    match connected {
        Ok(Some(link)) => run(&io, &worker, &link).await,
        Ok(None) => {}
        Err(()) => tracing::debug!("closed: no CONNECT in time"),
    }
    finish(&io).await;
    drop(seat);
}

/// Lets what was written leave, within a bound, then closes.
async fn finish(io: &Io) {
    let last = Box::pin(async {
        // Whether the peer took it or not, the connection ends here.
        let _ = io.flush(true).await;
        let _ = io.shutdown().await;
    });
    if ntex::time::timeout(LAST_BYTES, last).await.is_err() {
        io.terminate();
    }
}

/// Reads CONNECT and hands it to the worker.
async fn connect(io: &Io, worker: &Rc<WorkerCell>, origin: Origin) -> Option<Link> {
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

fn refuse(io: &Io, version: Version, code: ReasonCode) {
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

/// Reads packets until the connection ends, from whichever side.
async fn run(io: &Io, worker: &Rc<WorkerCell>, link: &Link) {
    let pump = Pump { worker, link, bytes_max: worker.packet_bytes_max() };
    let closed = poll_fn(|cx| pump.poll(io, cx)).await;
    let now = clock::now();
    if let Some(closed) = closed {
        worker.handle(now, Event::Closed(link.slot.get(), closed));
        worker.end_turn(now);
    }
    link.close(None);
}

/// Hands every whole frame of the read buffer to the worker.
struct Pump<'a> {
    worker: &'a Rc<WorkerCell>,
    link: &'a Link,
    bytes_max: u32,
}

impl Pump<'_> {
    /// Ready when the connection is over; with what the worker does not know yet.
    fn poll(&self, io: &Io, cx: &mut Context<'_>) -> Poll<Option<Closed>> {
        loop {
            if !self.link.is_open() {
                return Poll::Ready(None);
            }
            self.link.register(cx.waker());
            if !self.may_read(io) {
                return self.poll_idle(io, cx);
            }
            // All that is here first: asking for more while packets wait would have it grow.
            match io.decode_item(self) {
                Err(code) => return Poll::Ready(Some(Closed::Refused(code))),
                Ok(decoded) if decoded.consumed > 0 && decoded.remains > 0 => continue,
                Ok(_) if !self.link.is_open() || !self.may_read(io) => continue,
                Ok(_) if self.link.is_held.get() => {
                    if self.worker.stall(self.link) {
                        return self.poll_idle(io, cx);
                    }
                    continue;
                }
                Ok(_) => {}
            }
            match io.poll_recv_decode(self, cx) {
                Ok(_) if !self.link.is_open() => return Poll::Ready(None),
                Ok(_) => return Poll::Pending,
                Err(RecvError::Decoder(code)) => {
                    return Poll::Ready(Some(Closed::Refused(code)));
                }
                Err(RecvError::WriteBackpressure) => match self.poll_congested(io, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(closed)) => return Poll::Ready(Some(closed)),
                    Poll::Pending => return Poll::Pending,
                },
                Err(RecvError::PeerGone(_) | RecvError::KeepAlive) => {
                    return Poll::Ready(Some(Closed::Network));
                }
            }
        }
    }

    /// Whether packets may be handled: the worker takes them, and what answers them has room.
    fn may_read(&self, io: &Io) -> bool {
        let has_room = || {
            !io.is_wr_backpressure()
                || io.with_write_buf(|out| out.len() < UNSENT_BYTES_MAX).unwrap_or(true)
        };
        self.link.is_reading() && has_room()
    }

    /// The client's socket is full: goes on when it takes bytes again, or sends some.
    fn poll_congested(&self, io: &Io, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        match io.poll_flush(cx, false) {
            Poll::Ready(Ok(())) => {
                self.writable();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Closed::Network)),
            Poll::Pending => match io.poll_read_ready(cx) {
                Poll::Ready(Ok(Some(()))) => Poll::Ready(Ok(())),
                Poll::Ready(_) => Poll::Ready(Err(Closed::Network)),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    /// Reading is stopped: only the end of the connection and a free socket are looked for.
    fn poll_idle(&self, io: &Io, cx: &mut Context<'_>) -> Poll<Option<Closed>> {
        use ntex::io::IoStatusUpdate as Update;
        if io.is_closed() {
            // What came before the end counts, as soon as it may be handled.
            let is_empty = io.with_read_buf(|rest| rest.is_empty());
            return if is_empty { Poll::Ready(Some(Closed::Network)) } else { Poll::Pending };
        }
        if io.is_wr_backpressure() {
            return match io.poll_flush(cx, false) {
                Poll::Ready(Ok(())) => {
                    self.writable();
                    cx.waker().wake_by_ref(); // look again, with a waker left behind
                    Poll::Pending
                }
                Poll::Ready(Err(_)) if io.is_closed() => {
                    cx.waker().wake_by_ref(); // look at what came before the end
                    Poll::Pending
                }
                Poll::Ready(Err(_)) => Poll::Ready(Some(Closed::Network)),
                Poll::Pending => Poll::Pending,
            };
        }
        match io.poll_status_update(cx) {
            Poll::Ready(Update::PeerGone(_)) => Poll::Ready(Some(Closed::Network)),
            Poll::Ready(_) | Poll::Pending => Poll::Pending,
        }
    }

    fn writable(&self) {
        let now = clock::now();
        self.worker.handle(now, Event::Writable(self.link.slot.get()));
        self.worker.end_turn(now);
    }
}

impl Decoder for Pump<'_> {
    type Item = ();
    type Error = ReasonCode;

    fn decode(&self, source: &mut BytesMut) -> Result<Option<()>, ReasonCode> {
        if frame::cut(source, self.bytes_max)?.is_none() {
            return Ok(None);
        }
        let now = clock::now();
        let slot = self.link.slot.get();
        let Terms { version, .. } = self.link.terms;
        let mut used = 0;
        let is_stalled = self.worker.is_stalled();
        self.link.is_held.set(false);
        let result = self.worker.with(|core, shell| {
            while self.link.is_reading() {
                let Some(frame) = frame::cut(&source[used..], self.bytes_max)? else {
                    break;
                };
                if frame.packet_type() == packet_type::PUBLISH {
                    if is_stalled {
                        self.link.is_held.set(true);
                        break;
                    }
                    used += frame.bytes.len();
                    decode::with_publish(frame, version, |publish| {
                        let packet = wasmqtt_core::event::Packet::Publish(publish);
                        core.handle(now, Event::Packet(slot, packet), shell);
                    })?;
                } else {
                    used += frame.bytes.len();
                    let packet = decode::packet(frame, version)?;
                    core.handle(now, Event::Packet(slot, packet), shell);
                }
            }
            Ok(())
        });
        source.advance(used);
        self.worker.end_turn(now);
        result.map(|()| None)
    }
}
