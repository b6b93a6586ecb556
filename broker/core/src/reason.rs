//! Reason Codes and what each protocol version puts on the wire for them.
//! What must not live here: the decision which reason applies.

/// MQTT protocol version of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// MQTT 3.1 (`MQIsdp`, Protocol Level 3).
    V31,
    /// MQTT 3.1.1 (Protocol Level 4).
    V311,
    /// MQTT 5.0 (Protocol Level 5).
    V5,
}

impl Version {
    /// The Protocol Level byte of CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// Whether it knows Reason Codes and properties.
    #[must_use]
    pub const fn is_v5(self) -> bool {
        matches!(self, Self::V5)
    }
}

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// MQTT 5 Reason Code [MQTT 2.4]; also the reason of every refusal towards 3.1.1 clients.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum ReasonCode { $($(#[$doc])* $name = $value,)* }

        impl ReasonCode {
            /// The code of that value, if the specification has one.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value { $($value => Some(Self::$name),)* _ => None }
            }

            /// The name in the specification's words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

reason_codes! {
    /// Success, Normal disconnection, Granted QoS 0.
    Success = 0x00, "success";
    /// SUBACK: Granted QoS 1.
    GrantedQos1 = 0x01, "granted QoS 1";
    /// SUBACK: Granted QoS 2.
    GrantedQos2 = 0x02, "granted QoS 2";
    /// DISCONNECT of a client that wants its Will published.
    DisconnectWithWill = 0x04, "disconnect with Will Message";
    /// PUBACK, PUBREC: accepted, nobody subscribes.
    NoMatchingSubscribers = 0x10, "no matching subscribers";
    /// UNSUBACK: nothing to remove.
    NoSubscriptionExisted = 0x11, "no subscription existed";
    /// AUTH.
    ContinueAuthentication = 0x18, "continue authentication";
    /// AUTH.
    ReAuthenticate = 0x19, "re-authenticate";
    /// A fault of the broker or of something it needs that has no code of its own.
    UnspecifiedError = 0x80, "unspecified error";
    /// The packet cannot be parsed.
    MalformedPacket = 0x81, "malformed packet";
    /// The packet is not allowed by the protocol there.
    ProtocolError = 0x82, "protocol error";
    /// Valid, but this broker does not do it.
    ImplementationSpecificError = 0x83, "implementation specific error";
    /// CONNACK.
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version";
    /// CONNACK.
    ClientIdentifierNotValid = 0x85, "client identifier not valid";
    /// CONNACK.
    BadUserNameOrPassword = 0x86, "bad user name or password";
    /// Not allowed for this client.
    NotAuthorized = 0x87, "not authorized";
    /// CONNACK.
    ServerUnavailable = 0x88, "server unavailable";
    /// CONNACK, DISCONNECT.
    ServerBusy = 0x89, "server busy";
    /// CONNACK.
    Banned = 0x8a, "banned";
    /// DISCONNECT.
    ServerShuttingDown = 0x8b, "server shutting down";
    /// CONNACK, AUTH.
    BadAuthenticationMethod = 0x8c, "bad authentication method";
    /// DISCONNECT.
    KeepAliveTimeout = 0x8d, "keep alive timeout";
    /// DISCONNECT: another connection uses the same client identifier.
    SessionTakenOver = 0x8e, "session taken over";
    /// The Topic Filter is well formed but not accepted.
    TopicFilterInvalid = 0x8f, "topic filter invalid";
    /// The Topic Name is well formed but not accepted.
    TopicNameInvalid = 0x90, "topic name invalid";
    /// The Packet Identifier is in use.
    PacketIdentifierInUse = 0x91, "packet identifier in use";
    /// PUBREL, PUBCOMP.
    PacketIdentifierNotFound = 0x92, "packet identifier not found";
    /// DISCONNECT: more unacknowledged publishes than Receive Maximum.
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded";
    /// DISCONNECT.
    TopicAliasInvalid = 0x94, "topic alias invalid";
    /// The packet is longer than this broker accepts.
    PacketTooLarge = 0x95, "packet too large";
    /// DISCONNECT.
    MessageRateTooHigh = 0x96, "message rate too high";
    /// A limit that was set by an operator.
    QuotaExceeded = 0x97, "quota exceeded";
    /// DISCONNECT: an operator closed the connection.
    AdministrativeAction = 0x98, "administrative action";
    /// The payload is not what it has to be.
    PayloadFormatInvalid = 0x99, "payload format invalid";
    /// CONNACK, DISCONNECT.
    RetainNotSupported = 0x9a, "retain not supported";
    /// CONNACK, DISCONNECT.
    QosNotSupported = 0x9b, "QoS not supported";
    /// CONNACK, DISCONNECT.
    UseAnotherServer = 0x9c, "use another server";
    /// CONNACK, DISCONNECT.
    ServerMoved = 0x9d, "server moved";
    /// SUBACK, DISCONNECT.
    SharedSubscriptionsNotSupported = 0x9e, "shared subscriptions not supported";
    /// CONNACK, DISCONNECT.
    ConnectionRateExceeded = 0x9f, "connection rate exceeded";
    /// DISCONNECT.
    MaximumConnectTime = 0xa0, "maximum connect time";
    /// SUBACK, DISCONNECT.
    SubscriptionIdentifiersNotSupported = 0xa1, "subscription identifiers not supported";
    /// SUBACK, DISCONNECT.
    WildcardSubscriptionsNotSupported = 0xa2, "wildcard subscriptions not supported";
}

impl ReasonCode {
    /// 0x80 and above: the operation failed.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The Connect Return code of a 3.1.1 CONNACK [MQTT 3.1.1, 3.2.2.3].
    #[must_use]
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "3.1.1 has no word for any other reason than that the server is unavailable"
    )]
    pub const fn connack_v3(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::BadUserNameOrPassword | Self::BadAuthenticationMethod => 4,
            Self::NotAuthorized | Self::Banned => 5,
            _ => 3,
        }
    }

    /// The code in the DISCONNECT of a connected client whose refusal could as well have been in a
    /// CONNACK [MQTT 5.0, 3.14.2.1]: what only CONNACK has a word for is told less exactly.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other code is a DISCONNECT's too")]
    pub const fn in_disconnect(self) -> Self {
        match self {
            Self::ClientIdentifierNotValid | Self::BadUserNameOrPassword | Self::Banned => {
                Self::NotAuthorized
            }
            Self::ServerUnavailable | Self::UnsupportedProtocolVersion => Self::UnspecifiedError,
            other => other,
        }
    }

    /// The code of one filter in a SUBACK: 3.1.1 knows a single failure, 0x80; 3.1 knows none, and
    /// its clients read what they may get at most.
    #[must_use]
    pub const fn suback(self, version: Version) -> u8 {
        match version {
            Version::V31 if self.is_error() => 0,
            Version::V311 if self.is_error() => 0x80,
            Version::V31 | Version::V311 | Version::V5 => self as u8,
        }
    }

    /// Whether this ends the publish of a 3.1.1 client without an acknowledgement, the connection
    /// with it: faults do, refusals get the positive acknowledgement [MQTT-3.3.5-2].
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::UnspecifiedError | Self::ServerUnavailable | Self::ServerBusy)
    }
}

/// Why a message never reached a session's client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DropReason {
    /// Its Message Expiry Interval passed while it waited [MQTT-3.3.2-5].
    Expired,
    /// It is longer than the client's Maximum Packet Size [MQTT-3.1.2-25].
    TooLarge,
    /// QoS 0: the client does not read, and its queue is full or its connection is gone.
    SlowReader,
    /// QoS 1 or 2: as many messages wait for the session as may.
    QueueMessages,
    /// QoS 1 or 2: as many bytes wait for the session as may.
    QueueBytes,
}

impl DropReason {
    /// All of them, each at the place of its number.
    pub const ALL: [Self; 5] =
        [Self::Expired, Self::TooLarge, Self::SlowReader, Self::QueueMessages, Self::QueueBytes];

    /// Whether the message was QoS 1 or 2 and gave way to a bound of the broker's.
    #[must_use]
    pub const fn is_by_policy(self) -> bool {
        matches!(self, Self::QueueMessages | Self::QueueBytes)
    }

    /// For people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::TooLarge => "larger than the client takes",
            Self::SlowReader => "QoS 0 to a client that does not read",
            Self::QueueMessages => "too many messages wait for the session",
            Self::QueueBytes => "too many bytes wait for the session",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ReasonCode;

    #[test]
    fn every_code_round_trips_through_its_value() {
        let known = (0..=u8::MAX).filter_map(ReasonCode::from_u8).count();
        assert_eq!(known, 43, "codes of MQTT 5 table 2-6, Success counted once");
        for value in 0..=u8::MAX {
            if let Some(code) = ReasonCode::from_u8(value) {
                assert_eq!(code as u8, value);
            }
        }
    }
}
