//! A connected socket as ntex's streams want it: one task that reads and writes when it can.
//! What must not live here: what the bytes mean, and where connections come from (`listener`).
//!
//! ntex brings streams of its own. They hold a buffer of the largest read for every socket that has
//! bytes, keep two tasks, and read once more to learn that nothing is left. This one reads into a
//! buffer that the thread's sockets share and copies what came; a short read says enough.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use ntex::io::{Handle, IoContext, IoStream, IoTaskStatus, Readiness};
use ntex::task::LocalWaker;
use ntex::util::{BytePage, BytePages, BytesMut};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Bytes of a connection's buffer; above, it is not read until they were handled.
pub(crate) const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the largest read: there is room for them behind the part of a packet.
const READ_BYTES_MAX: usize = 60 * 1024;

/// Bytes up to which a read gets a buffer of its own length; above, one from the pool.
const SMALL_READ_BYTES_MAX: usize = 4 * 1024;

/// Pages of one write.
const WRITE_PAGES_MAX: usize = 16;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES_MAX].into());
}

/// Whether a client will send nothing more: its socket, or a layer on it, said so. What came
/// before is handled, and answered: a client may end its side and go on to read.
#[derive(Default)]
pub(crate) struct End {
    is_here: Cell<bool>,
    waker: LocalWaker,
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("End").field(&self.is_here).finish()
    }
}

impl End {
    /// Whether it has come.
    pub(crate) fn is_here(&self) -> bool {
        self.is_here.get()
    }

    /// It has.
    pub(crate) fn come(&self) {
        self.is_here.set(true);
        self.waker.wake();
    }

    /// Has that task look again when it comes.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

/// A socket of either kind, as the reactor knows it.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Unix(stream) => stream.poll_write_ready(cx),
        }
    }

    /// Does it if the socket is ready for it; that it is not after all is told to the reactor.
    fn try_io<R>(
        &self,
        interest: Interest,
        what: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<R>,
    ) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, || Ok(what(stream.as_fd())?)),
            Self::Unix(stream) => stream.try_io(interest, || Ok(what(stream.as_fd())?)),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    end: Rc<End>,
}

impl Socket {
    /// Registers the socket, which is in non-blocking mode, with this thread's reactor.
    ///
    /// # Errors
    /// The system's, when it takes no more.
    pub(crate) fn new(socket: OwnedFd, is_unix: bool) -> io::Result<Self> {
        let stream = if is_unix {
            Stream::Unix(UnixStream::from_std(socket.into())?)
        } else {
            Stream::Tcp(TcpStream::from_std(socket.into())?)
        };
        Ok(Self { stream, end: Rc::default() })
    }

    /// Where it says that nothing more comes.
    pub(crate) fn end(&self) -> Rc<End> {
        Rc::clone(&self.end)
    }

    /// Reads what is there, until the connection has enough to do.
    fn poll_read(&self, stream: &IoContext, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.end.is_here() {
                return Poll::Pending; // what is left to write is written
            }
            if let Err(error) = ready!(self.stream.poll_read_ready(cx)) {
                stream.stop(Some(error));
                return Poll::Ready(());
            }
            let status = READ.with_borrow_mut(|buffer| match self.read(buffer) {
                Ok(0) => {
                    self.end.come();
                    IoTaskStatus::Pause
                }
                Ok(count) => {
                    let is_all = count < buffer.len();
                    if is_all {
                        self.has_read_all();
                    } else {
                        cx.waker().wake_by_ref(); // once what was read is handled
                    }
                    let status = take(stream, &buffer[..count]);
                    if status == IoTaskStatus::Io && !is_all { IoTaskStatus::Pause } else { status }
                }
                Err(error) if is_transient(&error) => IoTaskStatus::Io,
                Err(error) => {
                    stream.stop(Some(error));
                    IoTaskStatus::Stop
                }
            });
            match status {
                IoTaskStatus::Io => {}
                IoTaskStatus::Pause => return Poll::Pending, // woken to go on
                IoTaskStatus::Stop => return Poll::Ready(()),
            }
        }
    }

    /// Tells the reactor that there is nothing to read until the system says so again.
    fn has_read_all(&self) {
        let nothing = |_: BorrowedFd<'_>| Err::<(), _>(Errno::WOULDBLOCK);
        let _ = self.stream.try_io(Interest::READABLE, nothing); // the error is the message
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.try_io(Interest::READABLE, |file| rustix::io::read(file, buffer))
    }

    /// Writes as long as the socket takes it.
    fn poll_write(&self, stream: &IoContext, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Err(error) = ready!(self.stream.poll_write_ready(cx)) {
                stream.stop(Some(error));
                return Poll::Ready(());
            }
            match self.write(stream) {
                IoTaskStatus::Io => {}
                IoTaskStatus::Pause => return Poll::Pending, // woken when there is more
                IoTaskStatus::Stop => return Poll::Ready(()),
            }
        }
    }

    /// Writes once.
    fn write(&self, stream: &IoContext) -> IoTaskStatus {
        let written = stream.with_write_buf(|bytes| self.write_pages(bytes));
        stream.update_write_status(written)
    }

    /// Writes the first pages; whether the socket took anything.
    fn write_pages(&self, bytes: &mut BytePages) -> io::Result<bool> {
        let Some(page) = bytes.take() else { return Ok(false) };
        if bytes.is_empty() { self.write_page(page, bytes) } else { self.write_some(page, bytes) }
    }

    /// Writes; a socket that takes nothing for now took nothing.
    fn try_write(
        &self,
        write: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        match self.stream.try_io(Interest::WRITABLE, write) {
            Err(error) if is_transient(&error) => Ok(0),
            result => result,
        }
    }

    fn write_page(&self, mut page: BytePage, rest: &mut BytePages) -> io::Result<bool> {
        let written = self.try_write(|file| rustix::io::write(file, &page))?;
        if written < page.len() {
            page.advance_to(written);
            rest.prepend(page);
        }
        Ok(written > 0)
    }

    fn write_some(&self, first: BytePage, bytes: &mut BytePages) -> io::Result<bool> {
        let mut pages: [Option<BytePage>; WRITE_PAGES_MAX] = [const { None }; WRITE_PAGES_MAX];
        pages[0] = Some(first);
        for page in &mut pages[1..] {
            *page = bytes.take();
            if page.is_none() {
                break;
            }
        }
        let mut slices = [IoSlice::new(&[]); WRITE_PAGES_MAX];
        let mut count = 0;
        for (slice, page) in slices.iter_mut().zip(pages.iter().flatten()) {
            *slice = IoSlice::new(page);
            count += 1;
        }
        let written = self.try_write(|file| rustix::io::writev(file, &slices[..count]))?;
        let mut taken = written;
        for page in pages.iter_mut().flatten() {
            let part = page.len().min(taken);
            page.advance_to(part);
            taken -= part;
        }
        for page in pages.into_iter().flatten().rev() {
            bytes.prepend(page);
        }
        Ok(written > 0)
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Hands over what was read.
fn take(stream: &IoContext, bytes: &[u8]) -> IoTaskStatus {
    let buffer = if bytes.len() <= SMALL_READ_BYTES_MAX {
        BytesMut::copy_from_slice(bytes)
    } else {
        let mut buffer = stream.get_read_buf();
        buffer.extend_from_slice(bytes);
        buffer
    };
    stream.update_read_status(buffer, Ok(bytes.len()))
}

impl IoStream for Socket {
    fn start(self, stream: IoContext) -> Box<dyn Handle> {
        let socket = Rc::new(self);
        tokio::task::spawn_local(run(Rc::clone(&socket), stream));
        Box::new(Shared(socket))
    }
}

/// The stream's way to write at once, without waiting for the task.
struct Shared(Rc<Socket>);

impl Handle for Shared {
    fn write(&self, stream: &IoContext) {
        self.0.write(stream);
    }
}

/// Reads and writes until the connection ends, then writes what is left.
async fn run(socket: Rc<Socket>, stream: IoContext) {
    let is_graceful = poll_fn(|cx| {
        match stream.poll_write_ready(cx) {
            Poll::Ready(Readiness::Ready) => {
                if socket.poll_write(&stream, cx).is_ready() {
                    return Poll::Ready(false);
                }
            }
            Poll::Ready(Readiness::Shutdown) => return Poll::Ready(true),
            Poll::Ready(Readiness::Terminate) => return Poll::Ready(false),
            Poll::Pending => {}
        }
        match stream.poll_read_ready(cx) {
            Poll::Ready(Readiness::Ready) => socket.poll_read(&stream, cx).map(|()| false),
            Poll::Ready(Readiness::Shutdown | Readiness::Terminate) | Poll::Pending => {
                Poll::Pending // writing says when it is over
            }
        }
    })
    .await;
    if !stream.is_stopped() {
        poll_fn(|cx| match ready!(socket.stream.poll_write_ready(cx)) {
            Ok(()) => match socket.write(&stream) {
                IoTaskStatus::Stop => Poll::Ready(()),
                IoTaskStatus::Io => {
                    cx.waker().wake_by_ref(); // asks the socket again whether it is ready
                    Poll::Pending
                }
                IoTaskStatus::Pause => stream.shutdown(is_graceful, cx),
            },
            Err(error) => {
                stream.stop(Some(error));
                Poll::Ready(())
            }
        })
        .await;
    }
    if !stream.is_stopped() {
        stream.stop(None);
    }
}
