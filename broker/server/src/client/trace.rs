//! Packets in one line each, for `--debug`: never a password or a payload.
//! What must not live here: where the lines go.

use wasmqtt_core::message::QoS;
use wasmqtt_core::reason::Version;

use super::error::Reason;
use super::packet::{Connect, Packet, Publish, Step};
use super::property::{Id, Properties};

/// As `-V` has it.
pub(crate) const fn version(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    }
}

/// CONNECT.
pub(crate) fn connect(connect: &Connect) -> String {
    let Connect { client_id, clean_start, keep_alive_seconds, properties, will, .. } = connect;
    let mut text = format!(
        "> CONNECT version={} client_id={client_id:?} clean_start={clean_start} \
         keep_alive={keep_alive_seconds}",
        version(connect.version)
    );
    if let Some(username) = &connect.username {
        text.push_str(&format!(" user={username:?}"));
    }
    if connect.password.is_some() {
        text.push_str(" password=***");
    }
    if let Some(will) = will {
        text.push_str(&format!(" will=({})", publish(will)));
    }
    text.push_str(&listed(properties));
    text
}

/// PUBLISH of either side.
pub(crate) fn publish(message: &Publish) -> String {
    let Publish { topic, payload, qos, retain, dup, packet_id, properties } = message;
    let mut text = format!("{topic} qos={} {} bytes", *qos as u8, payload.len());
    if *qos > QoS::AtMostOnce && *packet_id > 0 {
        text.push_str(&format!(" id={packet_id}"));
    }
    for (flag, name) in [(retain, " retain"), (dup, " dup")] {
        if *flag {
            text.push_str(name);
        }
    }
    text + &listed(properties)
}

/// The filters of SUBSCRIBE.
pub(crate) fn filters(filters: &[(String, u8)]) -> String {
    let list = filters.iter().map(|(filter, options)| {
        let more = if options & 0xfc == 0 {
            String::new()
        } else {
            let (no_local, as_published) = (options >> 2 & 1, options >> 3 & 1);
            let handling = options >> 4 & 3;
            format!(
                " no-local={no_local} retain-as-published={as_published} retain-handling={handling}"
            )
        };
        format!("{filter} qos={}{more}", options & 3)
    });
    list.collect::<Vec<_>>().join(", ")
}

/// The name of an acknowledgement.
pub(crate) const fn name(step: Step) -> &'static str {
    match step {
        Step::PubAck => "PUBACK",
        Step::PubRec => "PUBREC",
        Step::PubRel => "PUBREL",
        Step::PubComp => "PUBCOMP",
    }
}

/// A packet of the server.
pub(crate) fn received(packet: &Packet) -> String {
    match packet {
        Packet::ConnAck { session_present, code, properties } => {
            let reason = Reason::of_connack(*code, &Properties::default());
            format!("< CONNACK {reason} session_present={session_present}{}", listed(properties))
        }
        Packet::Publish(message) => format!("< PUBLISH {}", publish(message)),
        Packet::Acknowledgement { step, packet_id, code, properties } => {
            let reason = Reason::new(*code, &Properties::default());
            format!("< {} id={packet_id} {reason}{}", name(*step), listed(properties))
        }
        Packet::SubAck { packet_id, codes, properties } => {
            format!("< SUBACK id={packet_id} {codes:02x?}{}", listed(properties))
        }
        Packet::UnsubAck { packet_id, codes, properties } => {
            format!("< UNSUBACK id={packet_id} {codes:02x?}{}", listed(properties))
        }
        Packet::PingResp => "< PINGRESP".to_owned(),
        Packet::Disconnect { code, properties } => {
            format!("< DISCONNECT {}", Reason::new(*code, properties))
        }
        Packet::Auth => "< AUTH".to_owned(),
    }
}

fn listed(properties: &Properties) -> String {
    let list = properties.0.iter().map(|(id, value)| {
        // What proves who a client is stays out of terminals and logs.
        if *id == Id::AUTHENTICATION_DATA {
            format!(" {}=***", id.name())
        } else {
            format!(" {}={value}", id.name())
        }
    });
    list.collect()
}
