//! WebSocket as a byte stream: MQTT packets may begin and end anywhere in its binary messages
//! [MQTT-6.0.0-2].
//! What must not live here: MQTT.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream as MessageStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::error::ClientError;
use super::link::Stream;

/// The subprotocol [MQTT-6.0.0-3].
const SUBPROTOCOL: &str = "mqtt";

/// What one message carries at most; a larger write becomes several.
const MESSAGE_BYTES: usize = 64 * 1024;

/// Shakes hands on `stream`; `authority` is the host, with its port where that is not the usual one.
///
/// # Errors
/// What the server answered instead.
pub(crate) async fn connect(
    stream: Box<dyn Stream>,
    secure: bool,
    authority: &str,
    path: &str,
) -> Result<Box<dyn Stream>, ClientError> {
    let failed = |error: String| ClientError::WebSocket { server: authority.to_owned(), error };
    let scheme = if secure { "wss" } else { "ws" };
    let mut request = format!("{scheme}://{authority}{path}")
        .into_client_request()
        .map_err(|error| failed(error.to_string()))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    let (socket, _) = client_async(request, stream).await.map_err(|error| {
        if let Error::Http(answer) = &error {
            return failed(format!("{path} was answered with {}", answer.status()));
        }
        failed(error.to_string())
    })?;
    Ok(Box::new(WebSocket { socket, message: Bytes::new() }))
}

struct WebSocket {
    socket: WebSocketStream<Box<dyn Stream>>,
    /// The rest of a message that was read in part.
    message: Bytes,
}

fn broken(error: Error) -> io::Error {
    if let Error::Io(error) = error { error } else { io::Error::other(error) }
}

impl AsyncRead for WebSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.message.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(message))) => self.message = message,
                // [MQTT-6.0.0-1]
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("a WebSocket message of text")));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let count = self.message.len().min(buffer.remaining());
        buffer.put_slice(&self.message[..count]);
        self.message.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(broken)?;
        let count = bytes.len().min(MESSAGE_BYTES);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..count]));
        socket.start_send(message).map_err(broken)?;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context).map_err(broken)
    }
}
