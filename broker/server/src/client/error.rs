//! Why a connection to a server did not come about or ended: what, where, and what to do.
//! What must not live here: exit codes.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use wasmqtt_core::reason::{ReasonCode, Version};

use super::property::{Id, Properties};

/// What ended it.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("host {host} is not known: {error}")]
    Resolve { host: String, error: io::Error },
    #[error("can't connect to {server}: {error}")]
    Connect { server: String, error: io::Error },
    #[error("{file}: {error}")]
    File { file: PathBuf, error: String },
    #[error("TLS with {server}: {error}")]
    Tls { server: String, error: String },
    #[error("WebSocket with {server}: {error}")]
    WebSocket { server: String, error: String },
    #[error("{server} did not answer CONNECT within {seconds} s")]
    Late { server: String, seconds: u64 },
    #[error("{server} closed the connection instead of answering CONNECT of MQTT {version}")]
    ClosedAtConnect { server: String, version: &'static str },
    #[error("{server} refused the connection: {reason}")]
    Refused { server: String, version: Version, reason: Reason },
    #[error("{server} ended the connection: {reason}")]
    Disconnected { server: String, reason: Reason },
    #[error("{server} closed the connection")]
    Closed { server: String },
    #[error("the connection to {server} broke: {error}")]
    Broken { server: String, error: io::Error },
    #[error("{server} did not answer for {} s", .0.as_secs(), server = .1)]
    Silent(Duration, String),
    #[error("{server} sent what MQTT does not allow: {what}")]
    Protocol { server: String, what: String },
    #[error("{0}")]
    NotAccepted(String),
}

/// A Reason Code with what the server said beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reason {
    /// The code of MQTT 5, or what stands for a Connect Return code of 3.1.1.
    pub(crate) code: u8,
    /// Its Reason String.
    text: Option<String>,
    /// Server Reference.
    reference: Option<String>,
}

impl Reason {
    pub(crate) fn new(code: u8, properties: &Properties) -> Self {
        Self {
            code,
            text: properties.text(Id::REASON_STRING).map(str::to_owned),
            reference: properties.text(Id::SERVER_REFERENCE).map(str::to_owned),
        }
    }

    /// Of a CONNACK; 3.1.1 has Connect Return codes [MQTT 3.1.1, 3.2.2.3], and a server that does
    /// not know MQTT 5 answers with one of them.
    pub(crate) fn of_connack(code: u8, properties: &Properties) -> Self {
        let code = match code {
            1 => ReasonCode::UnsupportedProtocolVersion as u8,
            2 => ReasonCode::ClientIdentifierNotValid as u8,
            3 => ReasonCode::ServerUnavailable as u8,
            4 => ReasonCode::BadUserNameOrPassword as u8,
            5 => ReasonCode::NotAuthorized as u8,
            code => code,
        };
        Self::new(code, properties)
    }

    /// What the server said beside it.
    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    pub(crate) fn known(&self) -> Option<ReasonCode> {
        ReasonCode::from_u8(self.code)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.known().map_or("a code that MQTT does not have", ReasonCode::text);
        write!(out, "{words} (0x{:02x})", self.code)?;
        if let Some(text) = &self.text {
            write!(out, ": {text}")?;
        }
        if let Some(reference) = &self.reference {
            write!(out, "; it names {reference}")?;
        }
        Ok(())
    }
}

impl ClientError {
    /// What whoever called the command can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Resolve { .. } => "look at -h HOST".to_owned(),
            Self::Connect { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused => {
                "nothing listens there: is the broker running, and is -p PORT right?".to_owned()
            }
            Self::Connect { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                "look at --unix PATH".to_owned()
            }
            // A signature is bad too where an authority of that name has another key.
            Self::Tls { error, .. }
                if error.contains("UnknownIssuer") || error.contains("BadSignature") =>
            {
                "name the certificate of its authority: --cafile FILE".to_owned()
            }
            Self::Tls { error, .. } if asks_for_certificate(error) => {
                "show a certificate: --cert FILE --key FILE".to_owned()
            }
            Self::Tls { error, .. } if error.contains("corrupt message") => {
                "that port may not speak TLS".to_owned()
            }
            Self::Tls { error, .. } if error.contains("not valid for name") => {
                "connect by the name in the certificate: -h NAME or --sni NAME".to_owned()
            }
            Self::WebSocket { .. } => "look at --ws-path PATH".to_owned(),
            Self::Late { .. } => {
                "is that an MQTT port, and does it want TLS (--tls) or WebSocket (--ws)?".to_owned()
            }
            Self::ClosedAtConnect { version: "5", .. } => {
                "it may not speak MQTT 5 (-V 3.1.1), or want TLS (--tls) or WebSocket (--ws)"
                    .to_owned()
            }
            Self::ClosedAtConnect { .. } => {
                "it may not speak that version (-V), or want TLS (--tls) or WebSocket (--ws)"
                    .to_owned()
            }
            Self::Refused { version, reason, .. } => return refused_hint(*version, reason),
            Self::Disconnected { reason, .. }
                if reason.known() == Some(ReasonCode::SessionTakenOver) =>
            {
                "another client connected with the same client id (-i)".to_owned()
            }
            Self::File { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Disconnected { .. }
            | Self::Closed { .. }
            | Self::Broken { .. }
            | Self::Silent(..)
            | Self::Protocol { .. }
            | Self::NotAccepted(_) => return None,
        };
        Some(hint)
    }

    /// Whether the same may work a moment later.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Late { .. }
            | Self::ClosedAtConnect { .. }
            | Self::Closed { .. }
            | Self::Broken { .. }
            | Self::Silent(..) => true,
            Self::Refused { reason, .. } | Self::Disconnected { reason, .. } => matches!(
                reason.known(),
                Some(
                    ReasonCode::Success
                        | ReasonCode::UnspecifiedError
                        | ReasonCode::ServerUnavailable
                        | ReasonCode::ServerBusy
                        | ReasonCode::ServerShuttingDown
                        | ReasonCode::KeepAliveTimeout
                        | ReasonCode::ConnectionRateExceeded
                        | ReasonCode::MaximumConnectTime
                )
            ),
            Self::File { .. }
            | Self::Tls { .. }
            | Self::WebSocket { .. }
            | Self::Protocol { .. }
            | Self::NotAccepted(_) => false,
        }
    }
}

/// Alerts of a server that wants to see a client's certificate, or another one.
fn asks_for_certificate(error: &str) -> bool {
    ["CertificateRequired", "HandshakeFailure", "alert: BadCertificate", "alert: UnknownCA"]
        .iter()
        .any(|alert| error.contains(alert))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other codes say it all by themselves")]
fn refused_hint(version: Version, reason: &Reason) -> Option<String> {
    let hint = match reason.known()? {
        ReasonCode::UnsupportedProtocolVersion if version.is_v5() => {
            "that server does not speak MQTT 5: -V 3.1.1"
        }
        ReasonCode::UnsupportedProtocolVersion => "ask for another version: -V 3.1.1 or -V 5",
        ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => {
            "look at -u USER and its password (-P, --password-file or WASMQTT_PASSWORD)"
        }
        ReasonCode::ClientIdentifierNotValid => "give another client id: -i ID",
        _ => return None,
    };
    Some(hint.to_owned())
}
