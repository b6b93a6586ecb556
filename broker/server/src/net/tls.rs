//! TLS on a connection: the layer between a socket and what is said on it, and what the handshake
//! found out about the client.
//! What must not live here: certificates' files (`certificates`).
//!
//! ntex brings a layer of its own. It drops a connection whose handshake fails without telling the
//! client why, and a client without a certificate is the commonest mistake there is.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, BufRead, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use ntex::io::{Filter, FilterBuf, FilterLayer, Io, Layer};
use ntex::util::{BytePage, BytePages};
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, ProtocolVersion, ServerConfig,
    ServerConnection,
};
use wasmqtt_core::hook::TlsFacts;

use crate::certificates;

use super::socket::End;

/// Pages that are made into one record: as much as one can hold.
const RECORD_PAGES_MAX: usize = 4;

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client, or this side, has broken it off.
    Tls(Error),
    /// The connection ended before.
    Gone,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a few of many have words of their own")]
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Gone => return f.write_str("the client left"),
            Self::Tls(error) => error,
        };
        match error {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
                f.write_str("what the client sends is not TLS")
            }
            Error::NoCertificatesPresented => f.write_str("the client has sent no certificate"),
            Error::InvalidCertificate(CertificateError::Revoked) => {
                f.write_str("the client's certificate is revoked")
            }
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                f.write_str("the client's certificate is not from an authority of `client_ca`")
            }
            Error::InvalidCertificate(CertificateError::UnknownRevocationStatus) => {
                f.write_str("no list of `crl` is from the authority of the client's certificate")
            }
            Error::InvalidCertificate(error) => write!(f, "the client's certificate: {error}"),
            Error::AlertReceived(AlertDescription::UnknownCA) => {
                f.write_str("the client does not know the authority of this certificate")
            }
            Error::AlertReceived(alert) => write!(f, "the client refused: {alert:?}"),
            other => other.fmt(f),
        }
    }
}

/// The layer.
pub(crate) struct Tls {
    session: RefCell<ServerConnection>,
    /// What went wrong; nothing that comes is read from then on.
    failed: Cell<Option<Error>>,
    has_failed: Cell<bool>,
    end: Rc<End>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// Makes the handshake on a connection, of which nothing was taken from what the client sent.
///
/// # Errors
/// It came to nothing. The client was told why, if it is still there.
pub(crate) async fn accept<F: Filter>(
    io: Io<F>,
    config: Arc<ServerConfig>,
    end: &Rc<End>,
) -> Result<Io<Layer<Tls, F>>, Failure> {
    let mut session = ServerConnection::new(config).map_err(Failure::Tls)?;
    session.set_buffer_limit(None); // what it is given leaves it at once
    let io = io.add_filter(Tls {
        session: RefCell::new(session),
        failed: Cell::new(None),
        has_failed: Cell::new(false),
        end: Rc::clone(end),
    });
    loop {
        let is_there = io.flush(true).await.is_ok();
        if let Some(error) = io.filter().failed.take() {
            return Err(Failure::Tls(error));
        }
        if !is_there {
            return Err(Failure::Gone);
        }
        if !io.filter().session.borrow().is_handshaking() {
            return Ok(io);
        }
        if !matches!(io.read_notify().await, Ok(Some(()))) {
            return Err(io.filter().failed.take().map_or(Failure::Gone, Failure::Tls));
        }
    }
}

impl Tls {
    /// What the handshake found out.
    pub(crate) fn facts(&self) -> TlsFacts {
        let session = self.session.borrow();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let is_1_3 = session.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        TlsFacts {
            version: if is_1_3 { "TLSv1.3" } else { "TLSv1.2" },
            server_name: session.server_name().map(Into::into),
            certificate: certificate.map(|der| certificates::facts(der)),
        }
    }

    /// Makes records of what is to be written.
    fn seal(session: &mut ServerConnection, plain: &mut BytePages) -> io::Result<()> {
        let mut pages: [Option<BytePage>; RECORD_PAGES_MAX] = [const { None }; RECORD_PAGES_MAX];
        let mut slices = [IoSlice::new(&[]); RECORD_PAGES_MAX];
        let mut count = 0;
        for page in &mut pages {
            *page = plain.take();
        }
        for (slice, page) in slices.iter_mut().zip(pages.iter().flatten()) {
            *slice = IoSlice::new(page);
            count += 1;
        }
        session.writer().write_vectored(&slices[..count]).map(|_| ())
    }
}

impl FilterLayer for Tls {
    fn process_read_buf(&self, buf: &FilterBuf<'_>) -> io::Result<()> {
        let session = &mut *self.session.borrow_mut();
        let outcome: Result<(), Error> = buf.with_read_buffers(|source, plain| {
            let Some(source) = source else { return Ok(()) };
            while !source.is_empty() && !self.has_failed.get() && !self.end.is_here() {
                session.read_tls(source).map_err(|error| Error::General(error.to_string()))?;
                let state = session.process_new_packets()?;
                let mut left = state.plaintext_bytes_to_read();
                while left > 0 {
                    let mut reader = session.reader();
                    let bytes =
                        reader.fill_buf().map_err(|error| Error::General(error.to_string()))?;
                    plain.extend_from_slice(bytes);
                    let count = bytes.len();
                    left = left.saturating_sub(count.max(1));
                    reader.consume(count);
                }
                if state.peer_has_closed() {
                    self.end.come();
                }
            }
            source.clear(); // what comes behind the end or a failure says nothing
            Ok(())
        });
        // Answers of the handshake, a change of keys, or the alert that says what was wrong.
        buf.with_write_buffers(|_, sealed| write_records(session, sealed))?;
        if let Err(error) = outcome {
            self.has_failed.set(true);
            if !session.is_handshaking() {
                tracing::debug!("TLS: {}", Failure::Tls(error.clone()));
                buf.io().close();
            }
            self.failed.set(Some(error));
        }
        Ok(())
    }

    fn process_write_buf(&self, buf: &FilterBuf<'_>) -> io::Result<()> {
        let session = &mut *self.session.borrow_mut();
        buf.with_write_buffers(|plain, sealed| {
            while !plain.is_empty() {
                Self::seal(session, plain)?;
                write_records(session, sealed)?;
            }
            write_records(session, sealed)
        })
    }

    fn shutdown(&self, buf: &FilterBuf<'_>) -> io::Result<Poll<()>> {
        self.process_write_buf(buf)?;
        let session = &mut *self.session.borrow_mut();
        session.send_close_notify();
        buf.with_write_buffers(|_, sealed| write_records(session, sealed))?;
        Ok(Poll::Ready(()))
    }
}

fn write_records(session: &mut ServerConnection, sealed: &mut BytePages) -> io::Result<()> {
    struct Records<'a>(&'a mut BytePages);

    impl Write for Records<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            slices.iter().map(|slice| self.write(slice)).sum()
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    while session.wants_write() {
        session.write_tls(&mut Records(sealed))?;
    }
    Ok(())
}
