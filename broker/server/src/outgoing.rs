//! Bytes on their way to sockets, gathered while a run of packets is handled.
//!
//! Writing into a socket's buffer costs more than the bytes do: several lines of memory that nobody
//! touched lately. So what is sent during one turn of a worker stands in one place, in the order in
//! which it was sent, and each socket is written to once, with all that is for it.
//! What must not live here: what the bytes say.

use std::rc::Rc;

use wasmqtt_core::router::traffic::Count;

use crate::net::link::Link;

/// Gathered bytes for one connection beyond which they are written: its socket may be full.
const SOCKET_BYTES_MAX: usize = 16 * 1024;

/// Gathered bytes for all connections beyond which they are written: they should not leave the
/// processor's cache.
const GATHERED_BYTES_MAX: usize = 256 * 1024;

/// Pieces beyond which all are written.
const PIECES_MAX: usize = 16 * 1024;

/// Bytes for one connection that stand together.
#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    /// The next piece for the same connection, 0 if there is none: the first has one before it.
    next: usize,
}

/// A connection that something was gathered for.
#[derive(Debug)]
struct Socket {
    link: Link,
    first: usize,
    last: usize,
    bytes: usize,
}

/// Gathers bytes for any number of connections.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    /// Their links know their place here.
    sockets: Vec<Socket>,
}

impl Outgoing {
    /// Whether a connection's socket has all that it should be given for now. What is gathered for
    /// it is bounded by itself.
    pub(crate) fn is_full(link: &Link) -> bool {
        match link.gathered.get() {
            Some(_) => link.was_full.get(),
            None => link.io.is_wr_backpressure(),
        }
    }

    /// Sends bytes to a connection, after all that was sent to it before.
    pub(crate) fn put<R>(&mut self, link: &Link, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = self.bytes.len();
        let result = encode(&mut self.bytes);
        let end = self.bytes.len();
        if end > start {
            link.traffic.add(Count::PacketsSent, 1);
            link.traffic.add(Count::BytesSent, (end - start) as u64);
            self.add(link, start, end);
        }
        result
    }

    fn add(&mut self, link: &Link, start: usize, end: usize) {
        let place = link.gathered.get().unwrap_or(self.sockets.len());
        let next = self.pieces.len();
        match self.sockets.get_mut(place) {
            None => {
                link.was_full.set(link.io.is_wr_backpressure());
                link.gathered.set(Some(place));
                let link = Rc::clone(link);
                self.sockets.push(Socket { link, first: next, last: next, bytes: end - start });
                self.pieces.push(Piece { start, end, next: 0 });
            }
            Some(socket) => {
                socket.bytes += end - start;
                let last = &mut self.pieces[socket.last];
                if last.end == start {
                    last.end = end;
                } else {
                    last.next = next;
                    socket.last = next;
                    self.pieces.push(Piece { start, end, next: 0 });
                }
            }
        }
        if self.bytes.len() > GATHERED_BYTES_MAX || self.pieces.len() > PIECES_MAX {
            self.flush();
        } else if self.sockets[place].bytes > SOCKET_BYTES_MAX {
            self.finish(link);
        }
    }

    /// Writes what was gathered for a connection, which is about to be closed.
    pub(crate) fn finish(&mut self, link: &Link) {
        let Some(place) = link.gathered.take() else { return };
        let socket = self.sockets.swap_remove(place);
        if let Some(moved) = self.sockets.get(place) {
            moved.link.gathered.set(Some(place));
        }
        self.write(&socket);
        if self.sockets.is_empty() {
            self.bytes.clear();
            self.pieces.clear();
        }
    }

    /// Writes all that was gathered; no connection is held on to.
    pub(crate) fn flush(&mut self) {
        let mut sockets = std::mem::take(&mut self.sockets);
        for socket in sockets.drain(..) {
            socket.link.gathered.set(None);
            self.write(&socket);
        }
        self.sockets = sockets;
        self.bytes.clear();
        self.pieces.clear();
        // One large message should not be held on to for ever.
        self.bytes.shrink_to(2 * GATHERED_BYTES_MAX);
    }

    fn write(&self, socket: &Socket) {
        if socket.link.failure().is_some() {
            return; // it would come in the place of what could not be sent
        }
        // A socket that is closing takes nothing: what was for it goes with it.
        let _ = socket.link.io.with_write_buf(|out| {
            let mut place = socket.first;
            loop {
                let piece = &self.pieces[place];
                out.extend_from_slice(&self.bytes[piece.start..piece.end]);
                place = piece.next;
                if place == 0 {
                    return;
                }
            }
        });
    }
}
