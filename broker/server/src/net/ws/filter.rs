//! Frames as a layer of ntex's streams: payload goes up, what is written goes down in one frame for
//! each flush, pings and Close are answered here.
//! What must not live here: the bytes of a frame (`frame`).

use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;

use ntex::io::{Filter, FilterBuf, FilterLayer, Io, IoRef, Layer};
use ntex::util::{Buf, BytePages, Bytes};

use crate::net::socket::End;

use super::frame::{self, Header, Opcode, Reader};

/// Bytes of payload up to which they are copied behind their header instead of having a page of
/// their own.
const COPIED_BYTES_MAX: usize = 1024;

/// The Close of a server that has nothing more to say.
const NORMAL: u16 = 1000;

/// The layer.
#[derive(Debug)]
pub(crate) struct WebSocket(Rc<State>);

/// What the layer and the end of the connection share.
#[derive(Debug)]
struct State {
    reader: RefCell<Reader>,
    /// The answer to the last Ping, held back while the socket is full: one for many is enough
    /// [RFC 6455, section 5.5.3].
    pong: RefCell<Option<Box<[u8]>>>,
    /// Whether a Close was written: nothing may follow it.
    has_closed: Cell<bool>,
    /// What the client's Close is answered by, when what came before it was handled.
    answer: Cell<Option<Option<u16>>>,
    /// Whether payload has come.
    has_payload: Cell<bool>,
    end: Rc<End>,
}

/// Adds the layer to a stream whose upgrade is answered.
pub(crate) async fn add<F: Filter>(io: Io<F>, end: &Rc<End>) -> Io<Layer<WebSocket, F>> {
    let io = io.add_filter(WebSocket(Rc::new(State {
        reader: RefCell::default(),
        pong: RefCell::default(),
        has_closed: Cell::default(),
        answer: Cell::default(),
        has_payload: Cell::default(),
        end: Rc::clone(end),
    })));
    // Frames may have come with the upgrade: what they call for is written now. A stream that
    // fails here says so to whoever reads from it.
    let _ = io.flush(false).await;
    io
}

/// Says Close on a stream with the layer and waits for the client's; does nothing on others.
pub(crate) async fn close<F>(io: &Io<F>, end: &End) {
    let layer = io.query::<Rc<State>>();
    let Some(state) = layer.as_ref() else { return };
    let _ = io.with_buf(|buf| state.close(buf, state.answer.get().unwrap_or(Some(NORMAL))));
    if io.flush(true).await.is_err() {
        return;
    }
    poll_fn(|cx| {
        if end.is_here() {
            return Poll::Ready(());
        }
        match io.poll_read_notify(cx) {
            Poll::Ready(Ok(Some(()))) => {
                cx.waker().wake_by_ref(); // looks at what came
                Poll::Pending
            }
            Poll::Ready(Ok(None) | Err(_)) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
}

impl State {
    /// Sends all that waits in one frame, then Close.
    fn close(&self, buf: &FilterBuf<'_>, code: Option<u16>) {
        if self.has_closed.replace(true) {
            return;
        }
        let code = code.map(u16::to_be_bytes);
        buf.with_write_buffers(|source, target| {
            put_data(source, target);
            put(target, Opcode::Close, code.as_ref().map_or(&[], |code| &code[..]));
        });
    }

    fn on_ping(&self, ping: &[u8], buf: &FilterBuf<'_>) {
        if self.has_closed.get() {
            return;
        }
        if has_room(buf.io()) {
            buf.with_write_buffers(|_, target| put(target, Opcode::Pong, ping));
        } else {
            *self.pong.borrow_mut() = Some(ping.into());
        }
    }
}

/// Whether the socket takes answers. If it does not, its stream is looked after until it does.
fn has_room(io: &IoRef) -> bool {
    io.with_write_dst_buf(|out| out.len()) < io.cfg().write_buf().high
}

fn put(target: &mut BytePages, opcode: Opcode, payload: &[u8]) {
    target.extend_from_slice(Header::new(opcode, payload.len()).as_bytes());
    target.extend_from_slice(payload);
}

/// Moves all that waits into one frame.
fn put_data(source: &mut BytePages, target: &mut BytePages) {
    let length = source.len();
    if length == 0 {
        return;
    }
    let header = Header::new(Opcode::Binary, length);
    if length <= COPIED_BYTES_MAX {
        target.extend_from_slice(header.as_bytes());
        // Taken, not cleared: an empty page would stay for as long as the connection does.
        while let Some(page) = source.take() {
            target.extend_from_slice(&page);
        }
    } else {
        target.append(Bytes::copy_from_slice(header.as_bytes())); // short enough to need no page
        source.move_to(target);
    }
}

impl FilterLayer for WebSocket {
    fn query(&self, id: TypeId) -> Option<Box<dyn Any>> {
        (id == TypeId::of::<Rc<State>>()).then(|| Box::new(Rc::clone(&self.0)) as Box<dyn Any>)
    }

    fn process_read_buf(&self, buf: &FilterBuf<'_>) -> io::Result<()> {
        let state = &self.0;
        let end = buf.with_read_buffers(|source, target| {
            let source = source.as_mut()?;
            let taken = state.reader.borrow_mut().read(source, |ping| state.on_ping(ping, buf));
            if state.has_closed.get() {
                source.clear();
                return taken.end;
            }
            state.has_payload.set(state.has_payload.get() || !taken.payload.is_empty());
            source.truncate(taken.payload.end);
            source.advance(taken.payload.start);
            if target.is_empty() {
                std::mem::swap(source, target);
            } else {
                target.extend_from_slice(source);
                source.clear();
            }
            taken.end
        });
        match end {
            None => return Ok(()),
            Some(frame::End::Closed(code)) if state.has_payload.get() => {
                state.answer.set(Some(code));
            }
            Some(frame::End::Closed(code)) => state.close(buf, code),
            Some(frame::End::Refused(violation)) => {
                tracing::debug!("WebSocket closed: {violation}");
                state.close(buf, Some(violation.close_code()));
            }
        }
        state.end.come();
        Ok(())
    }

    fn process_write_buf(&self, buf: &FilterBuf<'_>) -> io::Result<()> {
        let state = &self.0;
        if state.has_closed.get() {
            buf.with_write_buffers(|source, _| source.clear());
            return Ok(());
        }
        let held = if has_room(buf.io()) { state.pong.take() } else { None };
        buf.with_write_buffers(|source, target| {
            if let Some(pong) = held {
                put(target, Opcode::Pong, &pong);
            }
            put_data(source, target);
        });
        Ok(())
    }

    fn shutdown(&self, buf: &FilterBuf<'_>) -> io::Result<Poll<()>> {
        self.0.close(buf, Some(NORMAL));
        Ok(Poll::Ready(()))
    }
}
