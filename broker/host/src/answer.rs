//! What plugins answer, and the checks that it meets before the core sees it.
//! What must not live here: the contract's types.

use std::sync::Arc;

use wasmqtt_core::hook::{AccessAction, Denial, Principal};
use wasmqtt_core::reason::ReasonCode as Code;

use crate::fault::Stop;
use crate::limits::REASON_BYTES_MAX;

/// What a plugin answers to `authenticate`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AuthVerdict {
    /// No opinion.
    Next,
    /// Let in as this principal.
    Allow(Arc<Principal>),
    /// Refused.
    Deny(Denial),
}

/// What a plugin answers to one step of `auth-exchange`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExchangeVerdict {
    /// Not its method.
    Next,
    /// The client is to answer.
    Continue {
        /// Authentication Data for the client.
        data: Box<[u8]>,
        /// For the next step.
        state: Box<[u8]>,
    },
    /// Let in as this principal, with Authentication Data for the client.
    Allow(Arc<Principal>, Option<Box<[u8]>>),
    /// Refused.
    Deny(Denial),
}

/// The packet that carries a refusal to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// CONNACK, of a Will too. A client that authenticates again gets what is nearest in a
    /// DISCONNECT.
    Connack,
    /// PUBACK and PUBREC [MQTT 3.4.2.1].
    Puback,
    /// As [`Self::Puback`]; Success acknowledges and forgets the message.
    Drop,
    /// SUBACK [MQTT 3.9.3].
    Suback,
}

impl Refusal {
    pub(crate) const fn of(action: AccessAction) -> Self {
        match action {
            AccessAction::Publish => Self::Puback,
            AccessAction::Subscribe => Self::Suback,
            AccessAction::Will => Self::Connack,
        }
    }

    const fn carries(self, code: Code) -> bool {
        match self {
            Self::Drop => matches!(code, Code::Success) || Self::Puback.carries(code),
            Self::Puback => matches!(
                code,
                Code::UnspecifiedError
                    | Code::ImplementationSpecificError
                    | Code::NotAuthorized
                    | Code::TopicNameInvalid
                    | Code::QuotaExceeded
                    | Code::PayloadFormatInvalid
            ),
            Self::Suback => matches!(
                code,
                Code::UnspecifiedError
                    | Code::ImplementationSpecificError
                    | Code::NotAuthorized
                    | Code::TopicFilterInvalid
                    | Code::QuotaExceeded
                    | Code::SharedSubscriptionsNotSupported
                    | Code::SubscriptionIdentifiersNotSupported
                    | Code::WildcardSubscriptionsNotSupported
            ),
            Self::Connack => matches!(
                code,
                Code::UnspecifiedError
                    | Code::ImplementationSpecificError
                    | Code::ClientIdentifierNotValid
                    | Code::BadUserNameOrPassword
                    | Code::NotAuthorized
                    | Code::ServerUnavailable
                    | Code::ServerBusy
                    | Code::Banned
                    | Code::BadAuthenticationMethod
                    | Code::TopicNameInvalid
                    | Code::PacketTooLarge
                    | Code::QuotaExceeded
                    | Code::PayloadFormatInvalid
                    | Code::RetainNotSupported
                    | Code::QosNotSupported
                    | Code::UseAnotherServer
                    | Code::ServerMoved
                    | Code::ConnectionRateExceeded
            ),
        }
    }
}

/// A refusal as a plugin worded it.
///
/// # Errors
/// The code is none that the packet carries. A text that is too long is cut, one with a null
/// character, which no MQTT string may contain [MQTT-1.5.4-2], left out: neither turns a refusal
/// into a fault.
pub(crate) fn denial(code: u8, reason: Option<String>, packet: Refusal) -> Result<Denial, Stop> {
    let code = Code::from_u8(code)
        .filter(|code| packet.carries(*code))
        .ok_or(Stop::bad("a refusal with a reason code that its packet does not carry"))?;
    let reason = reason.filter(|text| !text.is_empty() && !text.contains('\0')).map(|mut text| {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX));
        text.into_boxed_str()
    });
    Ok(Denial { code, reason })
}

#[cfg(test)]
mod tests {
    use super::{Refusal, denial};
    use crate::limits::REASON_BYTES_MAX;
    use wasmqtt_core::reason::ReasonCode;

    #[track_caller]
    fn check(packet: Refusal, carried: &[u8]) {
        let all: Vec<u8> =
            (0..=u8::MAX).filter(|code| denial(*code, None, packet).is_ok()).collect();
        assert_eq!(all, carried);
    }

    #[test]
    fn a_refusal_carries_only_the_codes_of_its_packet() {
        check(Refusal::Puback, &[0x80, 0x83, 0x87, 0x90, 0x97, 0x99]);
        check(Refusal::Drop, &[0, 0x80, 0x83, 0x87, 0x90, 0x97, 0x99]);
        check(Refusal::Suback, &[0x80, 0x83, 0x87, 0x8f, 0x97, 0x9e, 0xa1, 0xa2]);
        check(
            Refusal::Connack,
            &[
                0x80, 0x83, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a,
                0x9b, 0x9c, 0x9d, 0x9f,
            ],
        );
    }

    #[test]
    fn a_bad_text_does_not_undo_a_refusal() {
        let code = ReasonCode::NotAuthorized as u8;
        let reason =
            |text: &str| denial(code, Some(text.to_owned()), Refusal::Puback).unwrap().reason;
        assert_eq!(reason("no"), Some("no".into()));
        assert_eq!(reason("a\0b"), None);
        assert_eq!(reason(""), None);
        let long = "é".repeat(REASON_BYTES_MAX);
        assert_eq!(reason(&long).unwrap().len(), REASON_BYTES_MAX);
    }
}
