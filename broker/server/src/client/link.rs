//! A byte stream with packets cut out of what came and what is to be sent gathered.
//! What must not live here: what a packet means.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::net::frame;

/// Whatever carries MQTT.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The longest packet that MQTT has.
const PACKET_BYTES_MAX: u32 = 5 + 268_435_455;

/// What is read at once.
const READ_BYTES: usize = 64 * 1024;

/// How long one waits for a server to close after DISCONNECT.
const LINGER: Duration = Duration::from_secs(1);

/// One connection's bytes.
pub(crate) struct Link {
    stream: Box<dyn Stream>,
    input: BytesMut,
    /// What is to be sent; appended by the packets' writers.
    pub(crate) output: Vec<u8>,
    written: usize,
}

thread_local! {
    // One for all connections of a thread: thousands of them wait, one reads.
    static PAGE: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// The first byte of a packet and what follows its fixed header.
pub(crate) type RawPacket = (u8, Bytes);

impl Link {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, input: BytesMut::new(), output: Vec::new(), written: 0 }
    }

    /// Bytes that wait to be sent.
    pub(crate) const fn unsent(&self) -> usize {
        self.output.len() - self.written
    }

    /// The next packet of what came.
    ///
    /// # Errors
    /// What came is no packet.
    pub(crate) fn packet(&mut self) -> Result<Option<RawPacket>, &'static str> {
        let cut = frame::cut(&self.input, PACKET_BYTES_MAX).map_err(|code| code.text())?;
        let Some((first, whole, body)) =
            cut.map(|frame| (frame.first, frame.bytes.len(), frame.body.len()))
        else {
            return Ok(None);
        };
        let mut bytes = self.input.split_to(whole).freeze();
        bytes.advance(whole - body);
        Ok(Some((first, bytes)))
    }

    /// Sends what waits until bytes came; false when the server has closed. Nothing is lost when
    /// the future is dropped.
    pub(crate) async fn turn(&mut self) -> io::Result<bool> {
        poll_fn(|context| {
            // A server that reads slowly is still to be heard.
            if let Poll::Ready(Err(error)) = self.poll_send(context) {
                return Poll::Ready(Err(error));
            }
            self.poll_receive(context)
        })
        .await
    }

    /// Sends all that waits, and takes what has come meanwhile; false when the server has closed.
    pub(crate) async fn exchange(&mut self) -> io::Result<bool> {
        poll_fn(|context| {
            let sent = self.poll_send(context);
            if let Poll::Ready(Ok(false) | Err(_)) = self.poll_receive(context) {
                return Poll::Ready(Ok(false));
            }
            sent.map_ok(|()| true)
        })
        .await
    }

    /// Sends all that waits.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_send(context)).await
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Self { stream, input, .. } = self;
        PAGE.with_borrow_mut(|page| {
            let mut buffer = ReadBuf::new(page);
            let read = Pin::new(stream).poll_read(context, &mut buffer);
            read.map_ok(|()| {
                input.extend_from_slice(buffer.filled());
                !buffer.filled().is_empty()
            })
        })
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, output, written, .. } = self;
        let mut stream = Pin::new(stream);
        let had = !output.is_empty();
        while *written < output.len() {
            match stream.as_mut().poll_write(context, &output[*written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => *written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        output.clear();
        *written = 0;
        // TLS and WebSocket gather; what they still have goes out with the next turn.
        if had { stream.poll_flush(context) } else { Poll::Ready(Ok(())) }
    }

    /// Sends what waits and closes. What came meanwhile is read, or closing would take back what
    /// the server has not read.
    pub(crate) async fn close(mut self) {
        let closing = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            while self.turn().await? {
                self.input.clear();
            }
            io::Result::Ok(())
        };
        // A server that is gone, or does not close, is none of our business any more.
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn packets_come_whole_in_whatever_pieces() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut link = Link::new(Box::new(near));
        far.write_all(&[0xd0, 0, 0x40, 2, 0]).await.unwrap();
        assert!(link.turn().await.unwrap());
        assert_eq!(link.packet(), Ok(Some((0xd0, Bytes::new()))));
        assert_eq!(link.packet(), Ok(None));
        far.write_all(&[7]).await.unwrap();
        assert!(link.turn().await.unwrap());
        assert_eq!(link.packet(), Ok(Some((0x40, Bytes::from_static(&[0, 7])))));
        drop(far);
        assert!(!link.turn().await.unwrap());
    }

    #[tokio::test]
    async fn more_than_the_stream_takes_is_sent_piece_by_piece() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut link = Link::new(Box::new(near));
        link.output = vec![1; 1000];
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        link.flush().await.unwrap();
        assert_eq!(link.unsent(), 0);
        link.close().await;
        assert_eq!(reader.await.unwrap(), 1000);
    }
}
