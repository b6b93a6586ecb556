//! One connection's task: packets as they come, back-pressure kept, whatever carries them.
//! What must not live here: what packets do (the core), how they look (`decode`, `encode`), and
//! what comes before them (`opening`).

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use ntex::codec::Decoder;
use ntex::io::Io;
use ntex::util::{Buf, BytesMut};
use wasmqtt_core::event::{Closed, Event};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::router::traffic::Count;

use crate::clock;
use crate::worker_loop::WorkerCell;

use super::decode::{self, Terms};
use super::frame::{self, packet_type};
use super::link::Link;
use super::listener::{Accepted, Peer};
use super::opening::{self, Opened};
use super::socket::{End, Socket};
use super::ws;

/// How long a closed connection may take to accept its last bytes.
const LAST_BYTES: ntex::time::Seconds = ntex::time::Seconds(2);

/// Bytes that wait for a client's socket beyond which nothing more is read from it. It is above the
/// bound where deliveries stop: a client that is slow to read may still acknowledge and ping.
const UNSENT_BYTES_MAX: usize = 512 * 1024;

/// Serves one connection until it ends.
pub(crate) async fn serve(accepted: Accepted, worker: Rc<WorkerCell>) {
    let Accepted { socket, peer, seat } = accepted;
    let socket = match Socket::new(socket, matches!(peer, Peer::Unix)) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!("a connection can't be served: {error}"),
    };
    let end = socket.end();
    // Once: this task is always the one to wake.
    poll_fn(|cx| {
        end.register(cx.waker());
        Poll::Ready(())
    })
    .await;
    // What opening needs should not stay for as long as the connection does.
    match Box::pin(opening::open(socket, peer, &seat, &worker)).await {
        Some(Opened::Plain(io, link)) => run(&io, &worker, link, &end).await,
        Some(Opened::Layered(io, link)) => run(&io, &worker, link, &end).await,
        None => {}
    }
    drop(seat);
}

/// Lets what was written leave, within a bound, then closes.
async fn finish<F>(io: &Io<F>, end: &End) {
    let last = Box::pin(async {
        // Whether the peer took it or not, the connection ends here.
        let _ = io.flush(true).await;
        ws::filter::close(io, end).await;
        let _ = io.shutdown().await;
    });
    if ntex::time::timeout(LAST_BYTES, last).await.is_err() {
        io.terminate();
    }
}

/// Reads packets until the connection ends, from whichever side; a refused one has no link and
/// sends none.
async fn run<F>(io: &Io<F>, worker: &Rc<WorkerCell>, link: Option<Link>, end: &End) {
    if let Some(link) = &link {
        let pump = Pump { worker, link, end, bytes_max: worker.packet_bytes_max() };
        let closed = poll_fn(|cx| pump.poll(io, cx)).await;
        let now = clock::now();
        if let Some(closed) = closed {
            worker.handle(now, Event::Closed(link.slot.get(), closed));
            worker.end_turn(now);
        }
        link.close(None);
    }
    finish(io, end).await;
}

/// Hands every whole frame of the read buffer to the worker.
struct Pump<'a> {
    worker: &'a Rc<WorkerCell>,
    link: &'a Link,
    end: &'a End,
    bytes_max: u32,
}

impl Pump<'_> {
    /// Ready when the connection is over; with what the worker does not know yet.
    fn poll<F>(&self, io: &Io<F>, cx: &mut Context<'_>) -> Poll<Option<Closed>> {
        loop {
            if !self.link.is_open() {
                return Poll::Ready(None);
            }
            if self.link.failure().is_some() {
                return Poll::Ready(Some(Closed::Refused(ReasonCode::PacketTooLarge)));
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
                // No packet is left, and none can come.
                Ok(_) if self.end.is_here() => return Poll::Ready(Some(Closed::Network)),
                Ok(_) => {}
            }
            if io.is_closed() {
                return Poll::Ready(Some(Closed::Network));
            }
            let more = if io.is_wr_backpressure() {
                self.poll_congested(io, cx)
            } else {
                poll_bytes(io, cx)
            };
            match more {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(closed)) => return Poll::Ready(Some(closed)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether packets may be handled: the worker takes them, and what answers them has room.
    fn may_read<F>(&self, io: &Io<F>) -> bool {
        let has_room = || {
            !io.is_wr_backpressure()
                || io.with_write_buf(|out| out.len()).unwrap_or(0) < UNSENT_BYTES_MAX
                    // What a layer made of it waits elsewhere.
                    && io.with_write_dst_buf(|out| out.len()) < UNSENT_BYTES_MAX
        };
        self.link.is_reading() && has_room()
    }

    /// The client's socket is full: goes on when it takes bytes again, or sends some.
    fn poll_congested<F>(&self, io: &Io<F>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        match io.poll_flush(cx, false) {
            Poll::Ready(Ok(())) => {
                self.writable();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Closed::Network)),
            Poll::Pending => poll_bytes(io, cx),
        }
    }

    /// Reading is stopped: only the end of the connection and a free socket are looked for.
    fn poll_idle<F>(&self, io: &Io<F>, cx: &mut Context<'_>) -> Poll<Option<Closed>> {
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

/// Asks for more bytes from the client; ready when there are some.
fn poll_bytes<F>(io: &Io<F>, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
    match io.poll_read_ready(cx) {
        Poll::Ready(Ok(Some(()))) => Poll::Ready(Ok(())),
        Poll::Ready(_) => Poll::Ready(Err(Closed::Network)),
        Poll::Pending => Poll::Pending,
    }
}

impl Decoder for Pump<'_> {
    type Item = ();
    type Error = ReasonCode;

    fn decode(&self, source: &mut BytesMut) -> Result<Option<()>, ReasonCode> {
        if frame::cut(source, self.bytes_max)?.is_none() {
            self.link.note_rest(clock::now(), source.len(), false);
            return Ok(None);
        }
        let now = clock::now();
        let slot = self.link.slot.get();
        let Terms { version, .. } = self.link.terms;
        let (mut used, mut packets, mut publishes) = (0, 0, 0);
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
                    publishes += 1;
                    decode::with_publish(frame, version, |publish| {
                        let packet = wasmqtt_core::event::Packet::Publish(publish);
                        core.handle(now, Event::Packet(slot, packet), shell);
                    })?;
                } else {
                    used += frame.bytes.len();
                    packets += 1;
                    let packet = decode::packet(frame, version)?;
                    core.handle(now, Event::Packet(slot, packet), shell);
                }
            }
            Ok(())
        });
        source.advance(used);
        self.link.note_rest(now, source.len(), used > 0);
        let traffic = &self.link.traffic;
        traffic.add(Count::PacketsReceived, packets + publishes);
        traffic.add(Count::PublishesReceived, publishes);
        traffic.add(Count::BytesReceived, used as u64);
        self.worker.end_turn(now);
        result.map(|()| None)
    }
}
