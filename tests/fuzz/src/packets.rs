//! Packets of a client, by the first byte's version: nothing panics, memory stays within a multiple
//! of what came, and a PUBLISH that is written again is read as the same.
//! What must not live here: what packets do.

use wasmqtt_core::action::Delivery;
use wasmqtt_core::event::Publish;
use wasmqtt_core::ids::TenantId;
use wasmqtt_core::message::MessageRef;
use wasmqtt_core::reason::Version;
use wasmqtt_core::time::Millis;

use crate::allocations;
use crate::net::alias::Naming;
use crate::net::decode::{self, Origin, Terms};
use crate::net::encode;
use crate::net::frame::{self, Frame, packet_type};

const PACKET_BYTES_MAX: u32 = 1 << 16;
/// Bytes of memory for each byte that came, and for each frame: a filter of two bytes of a SUBSCRIBE
/// is a structure of its own.
const MEMORY_PER_BYTE: usize = 64;
const MEMORY_PER_FRAME: usize = 4096;

pub(crate) fn run(bytes: &[u8]) {
    let Some((version, mut rest)) = bytes.split_first() else {
        return;
    };
    let version = match version % 3 {
        0 => Version::V31,
        1 => Version::V311,
        _ => Version::V5,
    };
    loop {
        let mut used = 0;
        let memory = allocations::during(|| used = one(rest, version));
        let bound = MEMORY_PER_FRAME + MEMORY_PER_BYTE * used.max(rest.len().min(8));
        assert!(memory <= bound, "{memory} bytes for a frame of {used}, more than {bound}");
        if used == 0 {
            return;
        }
        rest = &rest[used..];
    }
}

/// Reads the first frame; how long it is, 0 if there is none.
fn one(bytes: &[u8], version: Version) -> usize {
    let Ok(Some(frame)) = frame::cut(bytes, PACKET_BYTES_MAX) else {
        return 0;
    };
    assert!(frame.bytes.len() <= bytes.len().min(PACKET_BYTES_MAX as usize));
    match frame.packet_type() {
        packet_type::CONNECT => connect(frame),
        packet_type::PUBLISH => publish(frame, version),
        _ => drop(decode::packet(frame, version)),
    }
    frame.bytes.len()
}

fn connect(frame: Frame<'_>) {
    let Ok(version) = frame::connect_version(frame) else {
        return;
    };
    let origin = Origin {
        tenant: TenantId::DEFAULT,
        tenant_name: "default".into(),
        listener: "mqtt".into(),
        peer: "127.0.0.1:1".into(),
        tls: None,
    };
    if let Ok((connect, terms)) = decode::connect(frame, version, origin) {
        assert_eq!((connect.facts.version, terms.version), (version, version));
        assert!(version.is_v5() || connect.authentication.is_none());
    }
}

fn publish(frame: Frame<'_>, version: Version) {
    let _ = decode::with_publish(frame, version, |publish| {
        let Publish { topic, payload, qos, retain, dup, packet_id, properties, .. } = publish;
        let message = MessageRef {
            topic,
            payload,
            qos,
            retain,
            properties,
            expires_at: Millis::NEVER,
            publisher: None,
        };
        let delivery = Delivery {
            message,
            qos,
            retain,
            dup,
            packet_id,
            subscription_ids: &[],
            expiry_seconds: publish.expiry_seconds,
        };
        if topic.is_empty() {
            return; // named by an alias: nothing that a broker sends
        }
        let mut out = Vec::new();
        let is_written = encode::publish(&mut out, terms(version), &delivery, |_| Naming::Name);
        assert!(is_written, "{publish:?} is too long to be sent");
        let again = frame::cut(&out, u32::MAX).ok().flatten().expect("a whole frame");
        assert_eq!(again.bytes.len(), out.len());
        let same = decode::with_publish(again, version, |again| {
            let flags = |it: &Publish<'_>| (it.qos, it.retain, it.dup, it.packet_id);
            let texts = |it: &Publish<'_>| (it.topic.to_owned(), it.properties.to_vec());
            flags(&again) == flags(&publish)
                && texts(&again) == texts(&publish)
                && again.payload == payload
                && again.expiry_seconds == publish.expiry_seconds
                && again.topic_alias.is_none()
        });
        assert_eq!(same, Ok(true), "{publish:?} is read back as something else");
    });
}

const fn terms(version: Version) -> Terms {
    Terms {
        version,
        packet_bytes_max: u32::MAX,
        problem_information: true,
        topic_aliases_max: 0,
        response_information: false,
    }
}
