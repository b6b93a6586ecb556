//! The values that hooks exchange with the broker; where they come from, bindings or mock, is the
//! `backend`'s business.

#[cfg(target_arch = "wasm32")]
use crate::bindings::additions::wasmqtt::plugin0_2_0::exchanges as additions;
#[cfg(target_arch = "wasm32")]
use crate::bindings::imports::wasmqtt::plugin::types as backend;
#[cfg(not(target_arch = "wasm32"))]
use crate::mock::backend;
#[cfg(not(target_arch = "wasm32"))]
use crate::mock::backend as additions;
use crate::reason_code;

/// Quality of Service [MQTT 4.3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
    /// QoS 2.
    ExactlyOnce,
}

/// What [`crate::Plugin::init`] is given.
#[derive(Debug)]
pub struct Startup<'call>(pub(crate) &'call backend::Startup);

impl Startup<'_> {
    /// The plugin's configuration as a JSON document; `{}` when the operator gave none. It was
    /// checked against the schema in `plugin.toml`.
    pub fn config(&self) -> String {
        self.0.config()
    }

    /// The tenant that this instance works for.
    pub fn tenant(&self) -> String {
        self.0.tenant()
    }

    /// Version of the broker, such as `0.1.0`.
    pub fn host_version(&self) -> String {
        self.0.host_version()
    }
}

/// A network connection and who is behind it. Each getter is a call into the broker and copies
/// what it returns.
#[derive(Debug)]
pub struct Connection<'call>(pub(crate) &'call backend::Connection);

impl Connection<'_> {
    /// The tenant that the connection belongs to.
    pub fn tenant(&self) -> String {
        self.0.tenant()
    }

    /// The client identifier.
    pub fn client_id(&self) -> String {
        self.0.client_id()
    }

    /// The User Name field of CONNECT.
    pub fn username(&self) -> Option<String> {
        self.0.username()
    }

    /// Who authenticated: the principal's name; none before authentication or when anonymous.
    pub fn principal(&self) -> Option<String> {
        self.0.principal()
    }

    /// The principal's roles.
    pub fn roles(&self) -> Vec<String> {
        self.0.roles()
    }

    /// An attribute that authentication attached to the principal.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.0.attribute(name)
    }

    /// The listener's name in the broker's configuration.
    pub fn listener(&self) -> String {
        self.0.listener()
    }

    /// Peer address as `ip:port`.
    pub fn peer(&self) -> String {
        self.0.peer()
    }

    /// Protocol Level: 4 is MQTT 3.1.1, 5 is MQTT 5.0.
    pub fn protocol_level(&self) -> u8 {
        self.0.protocol_level()
    }

    /// The Clean Start flag (Clean Session in MQTT 3.1.1).
    pub fn clean_start(&self) -> bool {
        self.0.clean_start()
    }

    /// Keep Alive in seconds; 0 is off.
    pub fn keep_alive_seconds(&self) -> u16 {
        self.0.keep_alive_seconds()
    }
}

/// An Application Message on its way through the broker. Getters answer what came in, also after
/// a setter; only what is read is copied into the plugin.
#[derive(Debug)]
pub struct Message<'call>(pub(crate) &'call backend::Message);

impl Message<'_> {
    /// The Topic Name.
    pub fn topic(&self) -> String {
        self.0.topic()
    }

    /// The QoS it was published with.
    pub fn qos(&self) -> QoS {
        qos_from_backend(self.0.qos())
    }

    /// The RETAIN flag.
    pub fn retain(&self) -> bool {
        self.0.retain()
    }

    /// Length of the payload in bytes, without copying it.
    pub fn payload_length(&self) -> u32 {
        self.0.payload_length()
    }

    /// A copy of the payload.
    pub fn payload(&self) -> Vec<u8> {
        self.0.payload()
    }

    /// The Content Type property (MQTT 5).
    pub fn content_type(&self) -> Option<String> {
        self.0.content_type()
    }

    /// The first User Property of that name (MQTT 5).
    pub fn user_property(&self, name: &str) -> Option<String> {
        self.0.user_property(name)
    }

    /// Replaces the Topic Name; the broker validates and authorizes it again.
    pub fn set_topic(&self, topic: &str) {
        self.0.set_topic(topic);
    }

    /// Replaces the payload.
    pub fn set_payload(&self, payload: &[u8]) {
        self.0.set_payload(payload);
    }

    /// Replaces the QoS.
    pub fn set_qos(&self, qos: QoS) {
        self.0.set_qos(qos_into_backend(qos));
    }

    /// Replaces the RETAIN flag.
    pub fn set_retain(&self, retain: bool) {
        self.0.set_retain(retain);
    }
}

/// One step of an exchange of AUTH packets (MQTT 5, chapter 4.12).
#[derive(Debug)]
pub struct Exchange<'call>(pub(crate) &'call additions::Exchange);

impl Exchange<'_> {
    /// The Authentication Method.
    pub fn method(&self) -> String {
        self.0.method()
    }

    /// The Authentication Data of the client's packet, none if it had none.
    pub fn data(&self) -> Option<Vec<u8>> {
        self.0.data()
    }

    /// How often the client has answered a challenge; 0 is CONNECT, or the AUTH packet by which a
    /// connected client begins to authenticate again.
    pub fn step(&self) -> u32 {
        self.0.step()
    }

    /// Whether the client is connected; who it is, [`Connection::principal`] tells.
    pub fn is_re_authentication(&self) -> bool {
        self.0.is_re_authentication()
    }

    /// What [`Self::set_state`] kept at the step before; empty at step 0.
    pub fn state(&self) -> Vec<u8> {
        self.0.state()
    }

    /// Kept by the broker until the client has answered a [`StepDecision::Continue`].
    pub fn set_state(&self, state: &[u8]) {
        self.0.set_state(state);
    }
}

/// The answer of [`crate::AuthExchange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepDecision {
    /// Not a method of this plugin: the next in the chain is asked, and when all say so the broker
    /// denies. Only an answer at step 0.
    Next,
    /// The client is to answer this challenge.
    Continue(Vec<u8>),
    /// Yes, with a last word of the method for the client.
    Allow(Option<Vec<u8>>),
    /// No.
    Deny(Denial),
}

impl StepDecision {
    /// A refusal with [`reason_code::NOT_AUTHORIZED`].
    pub fn not_authorized(reason: impl Into<String>) -> Self {
        StepDecision::Deny(Denial::new(reason_code::NOT_AUTHORIZED, reason))
    }
}

/// What an `allow` of [`crate::Authenticate`] or [`crate::AuthExchange`] grants.
#[derive(Debug)]
pub struct Grant<'call>(pub(crate) &'call backend::Grant);

impl Grant<'_> {
    /// The principal's name; by default the User Name, else the client identifier.
    pub fn set_principal(&self, name: &str) {
        self.0.set_principal(name);
    }

    /// Gives the principal a role.
    pub fn add_role(&self, role: &str) {
        self.0.add_role(role);
    }

    /// Attaches an attribute, which [`Connection::attribute`] reads later.
    pub fn set_attribute(&self, name: &str, value: &str) {
        self.0.set_attribute(name, value);
    }

    /// The broker closes the connection at that time: seconds since 1970-01-01T00:00:00Z.
    pub fn set_expires_at(&self, unix_seconds: u64) {
        self.0.set_expires_at(unix_seconds);
    }
}

/// How long the broker may reuse an answer of [`crate::Authorize`].
#[derive(Debug)]
pub struct CacheHint<'call>(pub(crate) &'call backend::CacheHint);

impl CacheHint<'_> {
    /// The broker may reuse the answer for the same connection, action and topic, for so many
    /// milliseconds. 0 is never.
    pub fn set_ttl_ms(&self, ttl_ms: u32) {
        self.0.set_ttl_ms(ttl_ms);
    }
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Publish a message.
    Publish,
    /// Subscribe to a Topic Filter.
    Subscribe,
    /// Leave a Will Message: asked at CONNECT.
    Will,
}

/// What a client asks of [`crate::Authorize`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it wants to do.
    pub action: Action,
    /// The Topic Name of a publish or will; the Topic Filter of a subscription as the client sent
    /// it, `$share/group/` included.
    pub topic: String,
    /// The QoS asked for.
    pub qos: QoS,
    /// The RETAIN flag of a publish or will.
    pub retain: bool,
    /// Length of the payload in bytes; 0 for a subscription.
    pub payload_length: u32,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// An MQTT 5 Reason Code of 0x80 or above, see [`crate::reason_code`]. The broker maps it for
    /// MQTT 3.1.1.
    pub code: u8,
    /// Shown to MQTT 5 clients and in the broker's log: never put a secret here.
    pub reason: Option<String>,
}

impl Denial {
    /// A refusal with a reason.
    pub fn new(code: u8, reason: impl Into<String>) -> Self {
        Denial { code, reason: Some(reason.into()) }
    }
}

/// The answer of a deciding hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// No opinion: the next in the chain is asked, and when all say so the broker denies.
    Next,
    /// Yes, and nobody further is asked.
    Allow,
    /// No, and nobody further is asked.
    Deny(Denial),
}

impl Decision {
    /// A refusal with [`reason_code::NOT_AUTHORIZED`].
    pub fn not_authorized(reason: impl Into<String>) -> Self {
        Decision::Deny(Denial::new(reason_code::NOT_AUTHORIZED, reason))
    }

    /// A refusal with [`reason_code::BAD_USER_NAME_OR_PASSWORD`].
    pub fn bad_credentials(reason: impl Into<String>) -> Self {
        Decision::Deny(Denial::new(reason_code::BAD_USER_NAME_OR_PASSWORD, reason))
    }
}

/// The answer of [`crate::OnPublish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The message goes on, with the changes made to it.
    Pass,
    /// The message ends here: with code 0x00 it is acknowledged and forgotten, with 0x80 and above
    /// it is refused.
    Drop(Denial),
}

impl Verdict {
    /// Acknowledges the message and forgets it.
    pub fn discard() -> Self {
        Verdict::Drop(Denial { code: reason_code::SUCCESS, reason: None })
    }

    /// Refuses the message.
    pub fn refuse(code: u8, reason: impl Into<String>) -> Self {
        Verdict::Drop(Denial::new(code, reason))
    }
}

pub(crate) fn qos_from_backend(qos: backend::Qos) -> QoS {
    match qos {
        backend::Qos::AtMostOnce => QoS::AtMostOnce,
        backend::Qos::AtLeastOnce => QoS::AtLeastOnce,
        backend::Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn qos_into_backend(qos: QoS) -> backend::Qos {
    match qos {
        QoS::AtMostOnce => backend::Qos::AtMostOnce,
        QoS::AtLeastOnce => backend::Qos::AtLeastOnce,
        QoS::ExactlyOnce => backend::Qos::ExactlyOnce,
    }
}
