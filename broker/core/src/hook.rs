//! Every hook point of the core, typed: what a hook is asked and what it may answer.
//! What must not live here: how a plugin is called, and what the core does with the answer.

use std::sync::Arc;

use crate::message::{MessageRef, QoS};
use crate::reason::{ReasonCode, Version};

/// A refusal: the Reason Code for the wire and a text for MQTT 5 clients and the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// 0x80 or above; [`ReasonCode::Success`] only where a drop is acknowledged.
    pub code: ReasonCode,
    /// Shown to MQTT 5 clients that ask for problem information.
    pub reason: Option<Box<str>>,
}

impl Denial {
    /// A refusal without a text.
    #[must_use]
    pub const fn new(code: ReasonCode) -> Self {
        Self { code, reason: None }
    }
}

/// An answer that is there at once, or comes later as `Event::HookDone`.
#[derive(Debug)]
pub enum HookReply<T> {
    /// Answered in the same turn.
    Now(T),
    /// The shell keeps the token and answers it exactly once.
    Parked,
}

/// What hooks may know of a connection. Shared: a plugin may look at it while the connection goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionFacts {
    /// The tenant's name.
    pub tenant: Arc<str>,
    /// The Client Identifier, assigned or sent.
    pub client_id: Arc<str>,
    /// The User Name field of CONNECT.
    pub username: Option<Box<str>>,
    /// The listener's name in the configuration.
    pub listener: Arc<str>,
    /// Peer address as `ip:port`.
    pub peer: Box<str>,
    /// Protocol version.
    pub version: Version,
    /// Clean Start (MQTT 5), Clean Session (3.1.1).
    pub clean_start: bool,
    /// Keep Alive as the client sent it.
    pub keep_alive_seconds: u16,
    /// What TLS found out; `None` without TLS.
    pub tls: Option<Box<TlsFacts>>,
}

/// What a TLS handshake found out about a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The name by which the client asked for the server (SNI).
    pub server_name: Option<Box<str>>,
    /// The client's certificate, from one of the listener's authorities, if it has sent one.
    pub certificate: Option<CertificateFacts>,
}

/// What a client's certificate says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateFacts {
    /// CN of the subject, if there is exactly one.
    pub common_name: Option<Box<str>>,
    /// Subject Alternative Names, in their order.
    pub alternative_names: Vec<AlternativeName>,
    /// SHA-256 of the whole certificate.
    pub fingerprint_sha256: [u8; 32],
}

/// A Subject Alternative Name of a certificate (RFC 5280, 4.2.1.6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AlternativeName {
    /// A host's name.
    Dns(Box<str>),
    /// A mail address.
    Email(Box<str>),
    /// A URI.
    Uri(Box<str>),
    /// An IP address.
    Ip(Box<str>),
}

/// Who a connection is, as authentication found it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Principal {
    /// None: anonymous.
    pub name: Option<Arc<str>>,
    /// Role names that access rules may name.
    pub roles: Vec<Arc<str>>,
    /// Attributes by name.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// The connection is closed at that time, in seconds since 1970-01-01T00:00:00Z.
    pub expires_at_unix_seconds: Option<u64>,
}

/// `authenticate`: who is this? Always answered later, off the packet path.
#[derive(Debug)]
pub struct AuthenticateRequest {
    /// The connection.
    pub connection: Arc<ConnectionFacts>,
    /// The Password field of CONNECT.
    pub password: Option<Box<[u8]>>,
}

/// The outcome of the whole authentication order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthenticateAnswer {
    /// Let in as this principal.
    Allow(Arc<Principal>),
    /// Refused; CONNACK carries the code.
    Deny(Denial),
}

/// `auth-exchange`: one step of an exchange of AUTH packets [MQTT 5.0, 4.12]. Always answered later,
/// off the packet path.
#[derive(Debug)]
pub struct ExchangeRequest {
    /// The connection.
    pub connection: Arc<ConnectionFacts>,
    /// Who it is, where it authenticates again; none before it is connected.
    pub principal: Option<Arc<Principal>>,
    /// The Authentication Method.
    pub method: Arc<str>,
    /// The Authentication Data of the client's packet.
    pub data: Option<Box<[u8]>>,
    /// How often the client has answered a challenge in this exchange.
    pub step: u16,
    /// What came along with the challenge that this answers; none at the first step.
    pub kept: Option<Kept>,
}

/// What whoever asked for a challenge wants to see again with its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Who asked: the step of the exchange's order.
    pub asked_by: u16,
    /// Its own words.
    pub state: Box<[u8]>,
}

/// The outcome of one step of an exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExchangeAnswer {
    /// AUTH with that Authentication Data; the client is to answer.
    Continue {
        /// For the client.
        data: Box<[u8]>,
        /// For whoever sees the client's answer.
        kept: Kept,
    },
    /// Let in as this principal; the Authentication Data goes into CONNACK, or the last AUTH.
    Allow(Arc<Principal>, Option<Box<[u8]>>),
    /// Refused; CONNACK or DISCONNECT carries the code.
    Deny(Denial),
}

/// What `authorize` is asked about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AccessAction {
    /// PUBLISH to a Topic Name.
    Publish,
    /// SUBSCRIBE with a Topic Filter.
    Subscribe,
    /// A Will, at CONNECT and when it fires.
    Will,
}

/// `authorize`: may this connection do that?
#[derive(Clone, Copy, Debug)]
pub struct AuthorizeRequest<'a> {
    /// The connection.
    pub connection: &'a Arc<ConnectionFacts>,
    /// Who it is.
    pub principal: &'a Arc<Principal>,
    /// What it wants.
    pub action: AccessAction,
    /// Topic Name or Topic Filter.
    pub topic: &'a str,
    /// QoS of the message or asked by the subscription.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Payload length in bytes, 0 for a subscription.
    pub payload_length: u32,
}

/// A verdict of one deciding step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// No opinion.
    Next,
    /// Yes.
    Allow,
    /// No.
    Deny(Denial),
}

/// The answer of a plugin, or of several in a row, to `authorize`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorizeAnswer {
    /// The verdict.
    pub verdict: Verdict,
    /// How long the answer may be reused for the same connection, action, topic, QoS and RETAIN;
    /// 0: not at all.
    pub ttl_ms: u32,
}

/// Which of the configured on-publish plugins a topic concerns: bit `i` is the `i`th plugin of the
/// chain. Empty: no plugin is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChainMask(pub u32);

impl ChainMask {
    /// No plugin at all.
    pub const NONE: Self = Self(0);

    /// Whether no plugin is concerned.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// `on-publish`: a message was published.
#[derive(Clone, Copy, Debug)]
pub struct OnPublishRequest<'a> {
    /// The publisher's connection.
    pub connection: &'a Arc<ConnectionFacts>,
    /// Who it is.
    pub principal: &'a Arc<Principal>,
    /// Which plugins are asked.
    pub chain: ChainMask,
    /// The message.
    pub message: MessageRef<'a>,
}

/// What an on-publish chain changed; `None` fields stay as they were.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Replacement {
    /// A new Topic Name; the core validates and authorizes it.
    pub topic: Option<Box<str>>,
    /// A new payload.
    pub payload: Option<Box<[u8]>>,
    /// A new QoS towards subscribers.
    pub qos: Option<QoS>,
    /// A new RETAIN flag.
    pub retain: Option<bool>,
}

/// The answer of an on-publish chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PublishVerdict {
    /// As it is.
    Pass,
    /// With changes.
    Replace(Box<Replacement>),
    /// Not delivered, not retained; the code goes into the acknowledgement.
    Drop(Denial),
}

/// A late answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HookAnswer {
    /// To `authenticate`.
    Authenticate(AuthenticateAnswer),
    /// To `auth-exchange`.
    Exchange(ExchangeAnswer),
    /// To `authorize`.
    Authorize(AuthorizeAnswer),
    /// To `on-publish`.
    OnPublish(PublishVerdict),
}
