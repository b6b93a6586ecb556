//! The client of the admin interface: over the socket of a running broker, or in this process.
//! What must not live here: which requests there are.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tower::ServiceExt;

use crate::admin::router::ErrorBody;

/// How long a broker may take for one answer.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// Where requests go.
#[derive(Debug)]
pub(crate) enum Client {
    /// To a broker, at that socket.
    Socket(PathBuf),
    /// To the files, by a router of this process.
    Files(Router),
}

/// Why there is no answer to a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Refused, and why.
    #[error("{}", .0.error)]
    Refused(ErrorBody),
    /// The broker did not answer, or not in our words.
    #[error("the broker went away before it answered ({0}); look whether the change was made")]
    Broken(String),
    /// It took too long.
    #[error("the broker did not answer within {} seconds; look whether the change was made", ANSWER_WAIT.as_secs())]
    Late,
}

impl Client {
    /// Whether somebody listens on that socket.
    pub(crate) async fn probe(socket: &Path) -> Result<(), std::io::Error> {
        UnixStream::connect(socket).await.map(drop)
    }

    /// Asks for something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, Body::empty()).await
    }

    /// Takes something away.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(Method::DELETE, path, Body::empty()).await
    }

    /// Adds or asks something.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.call(Method::POST, path, json(body)?).await
    }

    /// Replaces something.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.call(Method::PUT, path, json(body)?).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> Result<T, CallError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "wasmqtt")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| broken(&error))?;
        let answer = async {
            match self {
                Self::Socket(socket) => over_socket(socket, request).await,
                Self::Files(router) => match router.clone().oneshot(request).await {
                    Ok(response) => read(response).await,
                    Err(never) => match never {},
                },
            }
        };
        let (status, bytes) =
            tokio::time::timeout(ANSWER_WAIT, answer).await.map_err(|_| CallError::Late)??;
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| broken(&error));
        }
        let error = serde_json::from_slice(&bytes);
        Err(CallError::Refused(error.map_err(|_| broken(&status))?))
    }
}

fn json(body: &impl Serialize) -> Result<Body, CallError> {
    serde_json::to_vec(body).map(Body::from).map_err(|error| broken(&error))
}

fn broken(error: &impl std::fmt::Display) -> CallError {
    CallError::Broken(error.to_string())
}

async fn over_socket(
    socket: &Path,
    request: Request<Body>,
) -> Result<(StatusCode, Vec<u8>), CallError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| broken(&error))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        read(response).await
    };
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // The answer may be complete in the same turn in which the connection ends.
        biased;
        answer = &mut exchange => return answer,
        _ = &mut connection => {}
    }
    exchange.await
}

async fn read<B>(response: Response<B>) -> Result<(StatusCode, Vec<u8>), CallError>
where
    B: hyper::body::Body,
    B::Error: std::fmt::Display,
{
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| broken(&error))?;
    Ok((status, body.to_bytes().to_vec()))
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn any_name_is_one_segment() {
        assert_eq!(segment("sensor-1"), "sensor-1");
        assert_eq!(segment("a/../b c"), "a%2F%2E%2E%2Fb%20c");
        assert_eq!(segment("Jürgen"), "J%C3%BCrgen");
    }
}
