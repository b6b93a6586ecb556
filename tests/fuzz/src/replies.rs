//! Packets of the broker other than PUBLISH, made up from bytes: each is a whole packet within the
//! client's maximum, and somebody else's codec reads from it what was to be said.
//! What must not live here: when something is sent.

use std::num::NonZeroU16;

use ntex::codec::Decoder;
use ntex::util::BytesMut;
use ntex_mqtt::{v3, v5};
use wasmqtt_core::action::{ConnAck, Proof, Reply};
use wasmqtt_core::limits::Limits;
use wasmqtt_core::reason::{ReasonCode, Version};

use crate::net::decode::Terms;
use crate::net::{encode, frame};

const CODES: [ReasonCode; 5] = [
    ReasonCode::Success,
    ReasonCode::GrantedQos1,
    ReasonCode::GrantedQos2,
    ReasonCode::NotAuthorized,
    ReasonCode::QuotaExceeded,
];
/// What each packet may say in MQTT 5 besides success.
const PUBLISH_CODES: [ReasonCode; 4] = [
    ReasonCode::Success,
    ReasonCode::NoMatchingSubscribers,
    ReasonCode::NotAuthorized,
    ReasonCode::QuotaExceeded,
];
const RELEASE_CODES: [ReasonCode; 2] = [ReasonCode::Success, ReasonCode::PacketIdentifierNotFound];
const UNSUBSCRIBE_CODES: [ReasonCode; 3] =
    [ReasonCode::Success, ReasonCode::NoSubscriptionExisted, ReasonCode::NotAuthorized];
const CONNECT_CODES: [ReasonCode; 4] = [
    ReasonCode::Success,
    ReasonCode::NotAuthorized,
    ReasonCode::ClientIdentifierNotValid,
    ReasonCode::ServerBusy,
];

pub(crate) fn run(bytes: &[u8]) {
    let Some((&[kind, version, bound, code, high, low, flags, middle], rest)) =
        bytes.split_first_chunk::<8>()
    else {
        return;
    };
    let version = [Version::V31, Version::V311, Version::V5][usize::from(version % 3)];
    let terms = Terms {
        version,
        packet_bytes_max: if bound == u8::MAX { u32::MAX } else { u32::from(bound) * 4 },
        topic_aliases_max: 0,
        response_information: flags & 1 != 0,
        problem_information: flags & 2 != 0,
    };
    let id = NonZeroU16::new(u16::from_be_bytes([high, low])).unwrap_or(NonZeroU16::MIN);
    let (text, data) = rest.split_at(rest.len().min(usize::from(middle)));
    let Ok(text) = str::from_utf8(text) else { return };
    if text.contains('\0') {
        return; // no text that the broker has
    }
    let pick = |from: &[ReasonCode]| from[usize::from(code) % from.len()];
    let proof = Proof { method: text, data: (flags & 4 != 0).then_some(data) };
    let reason = (flags & 8 != 0).then_some(text);
    let codes: Vec<_> =
        data.iter().take(1000).map(|byte| CODES[usize::from(*byte) % CODES.len()]).collect();
    let removed: Vec<_> = data
        .iter()
        .take(1000)
        .map(|byte| UNSUBSCRIBE_CODES[usize::from(*byte) % UNSUBSCRIBE_CODES.len()])
        .collect();
    let reply = match kind % 9 {
        0 => Reply::PubAck(id, pick(&PUBLISH_CODES), reason),
        1 => Reply::PubRec(id, pick(&PUBLISH_CODES), reason),
        2 => Reply::PubRel(id, pick(&RELEASE_CODES)),
        3 => Reply::PubComp(id, pick(&RELEASE_CODES)),
        4 => Reply::SubAck(id, &codes),
        5 => Reply::UnsubAck(id, &removed),
        6 => Reply::PingResp,
        7 if version.is_v5() => Reply::Auth(ReasonCode::ContinueAuthentication, proof),
        _ => Reply::ConnAck(ConnAck {
            code: pick(&CONNECT_CODES),
            reason,
            session_present: flags & 16 != 0 && pick(&CONNECT_CODES) == ReasonCode::Success,
            assigned_client_id: (flags & 32 != 0).then_some(text),
            server_keep_alive: (flags & 64 != 0).then_some(id.get()),
            session_expiry_seconds: (flags & 128 != 0).then_some(u32::from(id.get())),
            proof: (flags & 4 != 0).then_some(proof),
        }),
    };
    check(terms, &reply, text);
}

fn check(terms: Terms, reply: &Reply<'_>, information: &str) {
    let mut out = vec![0xff];
    let is_written = encode::reply(&mut out, terms, reply, &Limits::default(), Some(information));
    assert_eq!(out[0], 0xff, "what was written before is not this packet's");
    let bytes = &out[1..];
    assert_eq!(is_written, !bytes.is_empty(), "{reply:?}");
    if !is_written {
        return;
    }
    assert!(bytes.len() <= terms.packet_bytes_max as usize, "{reply:?} is too long");
    let whole = frame::cut(bytes, u32::MAX).ok().flatten().map(|frame| frame.bytes.len());
    assert_eq!(whole, Some(bytes.len()), "{reply:?} is not one packet");
    let mut bytes = BytesMut::copy_from_slice(bytes);
    if terms.version.is_v5() {
        let Ok(Some(v5::codec::Decoded::Packet(packet, _))) =
            v5::codec::Codec::new().decode(&mut bytes)
        else {
            panic!("{reply:?} can't be read");
        };
        assert!(says_v5(&packet, reply, terms, information), "{reply:?} is read as {packet:?}");
    } else {
        let Ok(Some(v3::codec::Decoded::Packet(packet, _))) =
            v3::codec::Codec::new().decode(&mut bytes)
        else {
            panic!("{reply:?} can't be read");
        };
        assert!(says_v3(&packet, reply, terms.version), "{reply:?} is read as {packet:?}");
    }
}

fn says_v3(packet: &v3::codec::Packet, reply: &Reply<'_>, version: Version) -> bool {
    use v3::codec::Packet as P;
    match (packet, *reply) {
        (P::PublishAck { packet_id }, Reply::PubAck(id, ..))
        | (P::PublishReceived { packet_id }, Reply::PubRec(id, ..))
        | (P::PublishRelease { packet_id }, Reply::PubRel(id, _))
        | (P::PublishComplete { packet_id }, Reply::PubComp(id, _))
        | (P::UnsubscribeAck { packet_id }, Reply::UnsubAck(id, _)) => *packet_id == id,
        (P::SubscribeAck { packet_id, status }, Reply::SubAck(id, codes)) => {
            *packet_id == id && status.len() == codes.len()
        }
        (P::PingResponse, Reply::PingResp) => true,
        (P::ConnectAck(read), Reply::ConnAck(said)) => {
            read.session_present == (said.session_present && version != Version::V31)
                && (read.return_code == v3::codec::ConnectAckReason::ConnectionAccepted)
                    == (said.code == ReasonCode::Success)
        }
        _ => false,
    }
}

fn says_v5(packet: &v5::codec::Packet, reply: &Reply<'_>, terms: Terms, information: &str) -> bool {
    use v5::codec::Packet as P;
    let code = |read: u8, said: ReasonCode| read == said as u8;
    match (packet, *reply) {
        (P::PublishAck(read), Reply::PubAck(id, said, reason))
        | (P::PublishReceived(read), Reply::PubRec(id, said, reason)) => {
            let read_reason = read.reason_string.as_deref();
            read.packet_id == id
                && code(read.reason_code.into(), said)
                && (read_reason.is_none() || read_reason == reason && terms.problem_information)
        }
        (P::PublishRelease(read), Reply::PubRel(id, said))
        | (P::PublishComplete(read), Reply::PubComp(id, said)) => {
            read.packet_id == id && code(read.reason_code.into(), said)
        }
        (P::SubscribeAck(read), Reply::SubAck(id, said)) => {
            let mut pairs = read.status.iter().zip(said);
            read.packet_id == id
                && read.status.len() == said.len()
                && pairs.all(|(read, said)| code((*read).into(), *said))
        }
        (P::UnsubscribeAck(read), Reply::UnsubAck(id, said)) => {
            let mut pairs = read.status.iter().zip(said);
            read.packet_id == id
                && read.status.len() == said.len()
                && pairs.all(|(read, said)| code((*read).into(), *said))
        }
        (P::PingResponse, Reply::PingResp) => true,
        (P::Auth(read), Reply::Auth(said, proof)) => {
            code(read.reason_code.into(), said)
                && read.auth_method.as_deref() == Some(proof.method)
                && read.auth_data.as_deref() == proof.data
        }
        (P::ConnectAck(read), Reply::ConnAck(said)) => {
            let (read_reason, response) =
                (read.reason_string.as_deref(), read.response_info.as_deref());
            code(read.reason_code.into(), said.code)
                && read.session_present == said.session_present
                && read.assigned_client_id.as_deref() == said.assigned_client_id
                && read.server_keepalive_sec == said.server_keep_alive
                && read.session_expiry_interval_secs == said.session_expiry_seconds
                && read.auth_method.as_deref() == said.proof.map(|proof| proof.method)
                && read.auth_data.as_deref() == said.proof.and_then(|proof| proof.data)
                && (read_reason.is_none() || read_reason == said.reason)
                && (response.is_none()
                    || response == Some(information) && terms.response_information)
        }
        _ => false,
    }
}
