//! Bytes on their way to sockets, gathered while one connection's packets are handled.
//!
//! Writing into a socket's buffer costs more than the bytes do. So what goes to one connection in a
//! row is gathered and written at once: acknowledgements to the connection that is being read, and
//! messages to whichever other one gets several after each other.
//! What must not live here: what the bytes say.

use std::rc::Rc;

use crate::net::link::Link;

/// Gathered bytes for one connection beyond which they are written.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// Gathered bytes of one connection.
#[derive(Default)]
struct Gathered {
    link: Option<Link>,
    bytes: Vec<u8>,
}

impl Gathered {
    fn is_for(&self, link: &Link) -> bool {
        self.link.as_ref().is_some_and(|known| Rc::ptr_eq(known, link))
    }

    fn write(&mut self) {
        if self.bytes.is_empty() {
            return;
        }
        if let Some(link) = &self.link {
            write(link, &self.bytes);
        }
        self.bytes.clear();
    }

    fn turn_to(&mut self, link: &Link) {
        self.write();
        self.link = Some(Rc::clone(link));
    }
}

fn write(link: &Link, bytes: &[u8]) {
    // A socket that is closing takes nothing: what was for it goes with it.
    let _ = link.io.with_write_buf(|out| out.extend_from_slice(bytes));
}

/// Gathers bytes for the connection that is being read and for one other.
#[derive(Default)]
pub(crate) struct Outgoing {
    read: Gathered,
    other: Gathered,
    /// Who was written to last, directly.
    last: Option<Link>,
    direct: Vec<u8>,
}

impl Outgoing {
    /// From here on, packets of this connection are handled.
    pub(crate) fn reading(&mut self, link: &Link) {
        if !self.read.is_for(link) {
            if self.other.is_for(link) {
                self.other.write();
                self.other.link = None;
            }
            self.read.turn_to(link);
        }
    }

    /// Writes to a connection, now or soon, in order.
    pub(crate) fn put<R>(&mut self, link: &Link, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let gathered = if self.read.is_for(link) {
            &mut self.read
        } else if self.other.is_for(link) {
            &mut self.other
        } else if self.last.as_ref().is_some_and(|last| Rc::ptr_eq(last, link)) {
            self.other.turn_to(link);
            &mut self.other
        } else {
            self.last = Some(Rc::clone(link));
            self.direct.clear();
            let result = encode(&mut self.direct);
            write(link, &self.direct);
            return result;
        };
        let result = encode(&mut gathered.bytes);
        if gathered.bytes.len() > GATHERED_BYTES_MAX {
            gathered.write();
        }
        result
    }

    /// Writes what was gathered for a connection that is about to be closed.
    pub(crate) fn finish(&mut self, link: &Link) {
        for gathered in [&mut self.read, &mut self.other] {
            if gathered.is_for(link) {
                gathered.write();
            }
        }
    }

    /// Writes all that was gathered; no connection is held on to.
    pub(crate) fn flush(&mut self) {
        for gathered in [&mut self.read, &mut self.other] {
            gathered.write();
            gathered.link = None;
        }
        self.last = None;
    }
}
