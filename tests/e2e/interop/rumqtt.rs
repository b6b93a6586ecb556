//! rumqttc, in this process: a thread turns what its event loop says into lines.
//! What must not live here: the other clients.

use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use rumqttc::{Outgoing, v5};

use super::{Peer, Publisher, Round, message_line};

/// It keeps packets to 10 KiB by itself.
const PACKET_BYTES_MAX: u32 = 1 << 20;

/// Its queue of requests.
const REQUESTS_MAX: usize = 10;

const KEEP_ALIVE: Duration = Duration::from_secs(30);

pub(super) fn peer(name: &'static str, round: &Round) -> Peer {
    let (sender, lines) = channel();
    let publish: Publisher = if round.version == "5" {
        start_5(name, round, sender)
    } else {
        start_3(name, round, sender)
    };
    Peer { name, lines, messages: Vec::new(), publish, child: None }
}

fn start_3(name: &str, round: &Round, sender: Sender<String>) -> Publisher {
    use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
    let (host, port) = (round.tcp.ip().to_string(), round.tcp.port());
    let mut options = MqttOptions::new(round.client_id(name), host, port);
    options.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
    options.set_keep_alive(KEEP_ALIVE);
    let (client, mut connection) = Client::new(options, REQUESTS_MAX);
    client.subscribe(round.filter(), QoS::ExactlyOnce).unwrap();
    thread::spawn(move || {
        for event in connection.iter() {
            let line = match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => "ready".to_owned(),
                Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => {
                    "published".to_owned()
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let qos = publish.qos as u8;
                    message_line(&publish.topic, qos, publish.retain, &publish.payload)
                }
                Ok(Event::Outgoing(Outgoing::Publish(0))) => "published".to_owned(), // QoS 0
                Ok(_) => continue,
                Err(error) => format!("rumqttc: {error}"),
            };
            if line.starts_with("rumqttc: ") || sender.send(line).is_err() {
                return;
            }
        }
    });
    Box::new(move |topic, qos, payload| {
        let qos = rumqttc::qos(qos).unwrap();
        client.publish(topic, qos, false, payload).unwrap();
    })
}

fn start_5(name: &str, round: &Round, sender: Sender<String>) -> Publisher {
    use v5::mqttbytes::QoS;
    use v5::mqttbytes::v5::Packet;
    use v5::{Client, Event, MqttOptions};
    let (host, port) = (round.tcp.ip().to_string(), round.tcp.port());
    let mut options = MqttOptions::new(round.client_id(name), host, port);
    options.set_max_packet_size(Some(PACKET_BYTES_MAX));
    options.set_keep_alive(KEEP_ALIVE);
    let (client, mut connection) = Client::new(options, REQUESTS_MAX);
    client.subscribe(round.filter(), QoS::ExactlyOnce).unwrap();
    thread::spawn(move || {
        for event in connection.iter() {
            let line = match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => "ready".to_owned(),
                Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => {
                    "published".to_owned()
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    let topic = String::from_utf8_lossy(&publish.topic);
                    message_line(&topic, publish.qos as u8, publish.retain, &publish.payload)
                }
                Ok(Event::Outgoing(Outgoing::Publish(0))) => "published".to_owned(), // QoS 0
                Ok(_) => continue,
                Err(error) => format!("rumqttc: {error}"),
            };
            if line.starts_with("rumqttc: ") || sender.send(line).is_err() {
                return;
            }
        }
    });
    Box::new(move |topic, qos, payload| {
        let qos = v5::mqttbytes::qos(qos).unwrap();
        client.publish(topic, qos, false, payload.to_vec()).unwrap();
    })
}
