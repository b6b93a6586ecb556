//! What clients do in a run: connect, publish, subscribe, acknowledge, leave.
//! What must not live here: how packets travel (`world`) and what clients remember (`client`).

use std::collections::VecDeque;
use std::sync::Arc;

use wasmqtt_core::event::{Authentication, Closed, Connect};
use wasmqtt_core::hook::ConnectionFacts;
use wasmqtt_core::ids::{PacketId, TenantId};
use wasmqtt_core::message::{Message, MessageRef, QoS};
use wasmqtt_core::reason::{ReasonCode, Version};
use wasmqtt_core::session::will::Will;
use wasmqtt_core::time::Millis;

use crate::client::{Client, shared_filter, subscribe_filters};
use crate::model::{Asked, WillFacts};
use crate::packet::{Content, FromClient, METHOD, Plan, Shown, ToClient, properties_of};
use crate::rng::Rng;
use crate::scenario::{SHARED, Scenario, identifier_of_shared};
use crate::shell::{Link, LinkIx};
use crate::trace;
use crate::world::World;

impl World {
    /// Some client does something.
    pub(crate) fn act(&mut self) {
        let client = self.shell.rng.below(self.clients.len());
        let Some(link) = self.clients[client].link else {
            return self.connect(client);
        };
        if !self.clients[client].is_connected {
            if self.shell.rng.chance(5) {
                self.leave(client, link);
            } else if !self.clients[client].acks.is_empty() && self.shell.rng.chance(50) {
                self.answer_challenge(client, link);
            }
            return;
        }
        if !self.clients[client].acks.is_empty()
            && self.shell.rng.chance(self.clients[client].plan.ack_percent)
        {
            return self.acknowledge(client, link);
        }
        let habits = self.shell.scenario.habits.clone();
        let nonsense = self.clients[client].plan.nonsense_percent;
        let is_v5 = self.clients[client].plan.version == Version::V5;
        let kinds: [(u32, fn(&mut Self, usize, LinkIx)); 9] = [
            (habits.publish, Self::publish),
            (habits.subscribe, Self::subscribe),
            (habits.unsubscribe, Self::unsubscribe),
            (habits.reconnect, Self::reconnect),
            (habits.drop, Self::leave),
            (habits.disconnect, Self::disconnect),
            (nonsense, Self::talk_nonsense),
            (if is_v5 { habits.authenticate } else { 0 }, Self::authenticate_again),
            (1, |world, _, link| world.send(link, FromClient::Ping)),
        ];
        let total: u32 = kinds.iter().map(|(weight, _)| weight).sum();
        let mut dice = self.shell.rng.below(total as usize) as u32;
        for (weight, kind) in kinds {
            if dice < weight {
                return kind(self, client, link);
            }
            dice -= weight;
        }
    }

    fn send(&mut self, link: LinkIx, packet: FromClient) {
        if !self.shell.links[link].client_closed {
            self.shell.links[link].to_server.push_back(packet);
        }
    }

    /// A client that is not connected yet goes on with its exchange, or does what it must not.
    fn answer_challenge(&mut self, client: usize, link: LinkIx) {
        let Some(answer) = self.clients[client].acks.pop_front() else {
            return;
        };
        let nonsense = self.clients[client].plan.nonsense_percent;
        let packet = if self.shell.rng.chance(nonsense) {
            let plan = Plan { challenges: 0, verdict: Shown::Itself };
            let auth = |code, method| FromClient::Auth { code, method, plan };
            match self.shell.rng.below(4) {
                0 => auth(ReasonCode::ReAuthenticate, METHOD),
                1 => auth(ReasonCode::ContinueAuthentication, "another"),
                2 => self.subscribe_packet(client),
                _ => FromClient::Ping,
            }
        } else if self.shell.rng.chance(3) {
            let (code, session_expiry_seconds) = (ReasonCode::Success, None);
            self.shell.links[link].client_closed = true;
            self.clients[client].disconnected();
            let packet = FromClient::Disconnect { code, session_expiry_seconds };
            self.shell.links[link].to_server.push_back(packet);
            return;
        } else {
            answer
        };
        self.send(link, packet);
    }

    /// A connected client authenticates again; for once without having named a method, or while it
    /// does so already, or as somebody else.
    fn authenticate_again(&mut self, client: usize, link: LinkIx) {
        let Client { has_method, is_exchanging, ref plan, .. } = self.clients[client];
        let is_nonsense = self.shell.rng.chance(plan.nonsense_percent);
        if (!has_method || is_exchanging) && !is_nonsense {
            return;
        }
        let rng = &mut self.shell.rng;
        let verdict = match rng.below(20) {
            0 => Shown::SomebodyElse,
            1 => Shown::Refused(ReasonCode::NotAuthorized),
            2 => Shown::Refused(ReasonCode::Banned),
            _ => Shown::Itself,
        };
        let plan = Plan { challenges: rng.pick(&[0, 1, 1, 3, 17]), verdict };
        let (mut code, mut method) = (ReasonCode::ReAuthenticate, METHOD);
        if is_nonsense {
            match rng.below(3) {
                0 => code = ReasonCode::ContinueAuthentication,
                1 => method = "another",
                _ => {}
            }
        }
        self.clients[client].is_exchanging = true;
        self.send(link, FromClient::Auth { code, method, plan });
    }

    /// A client connects, as its plan says or with something else for once.
    fn connect(&mut self, client: usize) {
        let rng = &mut self.shell.rng;
        let plan = &self.clients[client].plan;
        let clean = rng.chance(plan.clean_percent);
        let expiry_seconds = match plan.version {
            Version::V31 | Version::V311 if clean => 0,
            Version::V31 | Version::V311 => u32::MAX,
            Version::V5 if !plan.id.is_empty() && rng.chance(8) => rng.pick(&[0, 7, u32::MAX]),
            Version::V5 => plan.expiry_seconds,
        };
        let receive_maximum = match plan.version {
            Version::V31 | Version::V311 => u16::MAX,
            Version::V5 => rng.pick(&[1, 2, 4, u16::MAX]),
        };
        let denials =
            [ReasonCode::NotAuthorized, ReasonCode::BadUserNameOrPassword, ReasonCode::Banned];
        let refused = if rng.chance(self.shell.scenario.auth_deny_percent) {
            Some(rng.pick(&denials))
        } else {
            None
        };
        let exchange = rng.chance(plan.exchange_percent).then(|| Plan {
            challenges: rng.pick(&[0, 1, 1, 2, 17]),
            verdict: refused.map_or(Shown::Itself, Shown::Refused),
        });
        let delay_seconds = if plan.version == Version::V5 { rng.pick(&[0, 0, 3, 30]) } else { 0 };
        let keep_alive_seconds = plan.keep_alive_seconds;
        let has_will = rng.chance(self.shell.scenario.will_percent);
        let will = has_will.then(|| WillFacts {
            content: Content { expiry_seconds: None, delay_seconds: None, ..self.content(client) },
            delay_seconds,
        });
        self.connect_as(Asked {
            client,
            clean,
            expiry_seconds,
            receive_maximum,
            keep_alive_seconds,
            will,
            refused,
            exchange,
        });
    }

    /// A client connects to some worker; an older connection is left as it is.
    pub(crate) fn connect_as(&mut self, asked: Asked) {
        let client = asked.client;
        let worker = self.shell.rng.below(self.workers.len());
        let is_narrow =
            self.shell.chaos && self.shell.rng.chance(self.shell.scenario.narrow_percent);
        let capacity = if is_narrow { self.shell.rng.pick(&[1, 2, 5]) } else { usize::MAX };
        self.begin(worker);
        trace!(self.shell, "{} {client} connects to {worker}: {asked:?}", self.shell.model.step);
        let link = self.shell.model.on_connect(asked.clone());
        self.shell.links.push(Link {
            client,
            worker,
            slot: None,
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            capacity,
            writable_due: false,
            reading: false,
            server_closed: false,
            client_closed: false,
            told: false,
        });
        trace!(self.shell, "  this is link {link}");
        self.clients[client].disconnected();
        self.clients[client].link = Some(link);
        let has_method = asked.exchange.is_some();
        (self.clients[client].has_method, self.clients[client].is_exchanging) =
            (has_method, has_method);
        let connect = self.connect_packet(link, &asked);
        let now = self.shell.now;
        let slot = self.workers[worker].connect(now, link, connect, &mut self.shell);
        self.shell.links[link].slot = Some(slot);
        if self.shell.rng.chance(self.shell.scenario.flush_percent) {
            self.flush(worker);
        }
    }

    fn connect_packet(&self, link: LinkIx, asked: &Asked) -> Connect {
        let plan = &self.clients[asked.client].plan;
        let will = asked.will.as_ref().map(|WillFacts { content, delay_seconds }| {
            let message = Message::new(MessageRef {
                topic: &content.topic,
                payload: &content.payload,
                qos: content.qos,
                retain: content.retain,
                properties: &properties_of(content.uid),
                expires_at: Millis::NEVER,
                publisher: None,
            });
            Box::new(Will {
                message,
                delay_seconds: *delay_seconds,
                expiry_seconds: None,
                hold_seconds: None,
            })
        });
        Connect {
            facts: ConnectionFacts {
                tenant: "default".into(),
                client_id: Arc::from(plan.id.as_str()),
                username: None,
                listener: Arc::from(link.to_string().as_str()),
                peer: self.shell.model.clients[asked.client].name.as_str().into(),
                version: plan.version,
                clean_start: asked.clean,
                keep_alive_seconds: asked.keep_alive_seconds,
                tls: None,
            },
            tenant: TenantId::DEFAULT,
            password: None,
            authentication: asked
                .exchange
                .map(|plan| Authentication { method: METHOD.into(), data: Some(plan.data()) }),
            will,
            session_expiry_seconds: asked.expiry_seconds,
            receive_maximum: asked.receive_maximum,
        }
    }

    /// Something new to publish.
    pub(crate) fn content(&mut self, client: usize) -> Content {
        let uid = self.shell.model.next_uid();
        let scenario = &self.shell.scenario;
        let rng = &mut self.shell.rng;
        let retain = rng.chance(scenario.retain_percent);
        let payload = if retain && rng.chance(25) {
            Vec::new()
        } else if rng.chance(scenario.big_percent) {
            vec![b'x'; 100]
        } else {
            format!("message {uid} of {client}").into_bytes()
        };
        let expiry_seconds =
            if rng.chance(scenario.expiry_percent) { Some(rng.within(1, 20) as u32) } else { None };
        let delay_seconds =
            if rng.chance(scenario.delay_percent) { Some(rng.within(0, 20) as u32) } else { None };
        Content {
            uid,
            delay_seconds,
            topic: rng.pick(&scenario.topics).to_owned(),
            payload,
            qos: QoS::from_u8(rng.below(3) as u8).unwrap(),
            retain,
            expiry_seconds,
        }
    }

    fn publish(&mut self, client: usize, link: LinkIx) {
        for _ in 0..self.shell.rng.pick(&[1, 1, 3]) {
            let mut content = self.content(client);
            if !self.clients[client].may_publish(self.shell.scenario.limits.receive_maximum) {
                content.qos = QoS::AtMostOnce;
            }
            let packet = self.clients[client].publish(content);
            self.send(link, packet);
        }
    }

    pub(crate) fn subscribe_packet(&mut self, client: usize) -> FromClient {
        let plan = &self.clients[client].plan;
        let rng = &mut self.shell.rng;
        if !self.shell.scenario.groups.is_empty() && rng.chance(60) {
            let group = rng.pick(&self.shell.scenario.groups);
            let packet_id = PacketId::new(rng.within(1_000, 60_000) as u16).unwrap();
            let identifier = identifier_of_shared(group);
            let filters = vec![shared_filter(rng, group, plan)];
            return FromClient::Subscribe { packet_id, identifier, filters };
        }
        let filters = subscribe_filters(rng, &self.shell.scenario, plan);
        let is_v5 = plan.version == Version::V5;
        let identifier = if is_v5 && rng.chance(40) { rng.within(1, 20) as u32 } else { 0 };
        let packet_id = PacketId::new(rng.within(1_000, 60_000) as u16).unwrap();
        FromClient::Subscribe { packet_id, identifier, filters }
    }

    fn subscribe(&mut self, client: usize, link: LinkIx) {
        let packet = self.subscribe_packet(client);
        self.send(link, packet);
    }

    fn unsubscribe(&mut self, _client: usize, link: LinkIx) {
        let rng = &mut self.shell.rng;
        let packet_id = PacketId::new(rng.within(1_000, 60_000) as u16).unwrap();
        let count = rng.pick(&[1, 1, 2]);
        let Scenario { filters, groups, .. } = &self.shell.scenario;
        let filter = |rng: &mut Rng| {
            if !groups.is_empty() && rng.chance(50) {
                SHARED[rng.pick(groups)]
            } else {
                rng.pick(filters)
            }
        };
        let filters = (0..count).map(|_| filter(rng).into()).collect();
        self.send(link, FromClient::Unsubscribe { packet_id, filters });
    }

    /// Sends what is to be acknowledged, in order; for once a PUBREC that refuses.
    fn acknowledge(&mut self, client: usize, link: LinkIx) {
        for _ in 0..self.shell.rng.pick(&[1, 2, 10]) {
            let Some(mut packet) = self.clients[client].acks.pop_front() else {
                return;
            };
            let is_v5 = self.clients[client].plan.version == Version::V5;
            if let FromClient::PubRec(packet_id, code) = &mut packet
                && is_v5
                && self.shell.rng.chance(10)
            {
                *code = ReasonCode::ImplementationSpecificError;
                self.clients[client].forget(*packet_id);
                self.shell.model.cover.hit("delivery refused by its client");
            }
            self.send(link, packet);
        }
    }

    /// Connects anew while the old connection seems to be up.
    fn reconnect(&mut self, client: usize, link: LinkIx) {
        if self.clients[client].plan.id.is_empty() {
            return self.leave(client, link);
        }
        self.connect(client);
    }

    /// Drops the socket; some of what was sent is lost.
    pub(crate) fn leave(&mut self, client: usize, link: LinkIx) {
        trace!(self.shell, "{link} is dropped by its client");
        let wire = &mut self.shell.links[link];
        wire.client_closed = true;
        let arrives = self.shell.rng.below(wire.to_server.len() + 1);
        wire.to_server.truncate(arrives);
        wire.to_client.clear();
        self.clients[client].disconnected();
    }

    fn disconnect(&mut self, client: usize, link: LinkIx) {
        let is_v5 = self.clients[client].plan.version == Version::V5;
        let rng = &mut self.shell.rng;
        let (mut code, mut session_expiry_seconds) = (ReasonCode::Success, None);
        if is_v5 && rng.chance(30) {
            code = ReasonCode::DisconnectWithWill;
        }
        if is_v5 && rng.chance(15) {
            session_expiry_seconds = Some(rng.pick(&[0, 3, 50]));
        }
        self.send(link, FromClient::Disconnect { code, session_expiry_seconds });
        self.shell.links[link].client_closed = true;
        self.shell.links[link].to_client.clear();
        self.clients[client].disconnected();
    }

    fn talk_nonsense(&mut self, client: usize, link: LinkIx) {
        let packet = match self.shell.rng.below(10) {
            0 => {
                let content = self.content(client);
                FromClient::Publish {
                    content: Content { qos: QoS::AtMostOnce, delay_seconds: None, ..content },
                    packet_id: None,
                    dup: false,
                    alias: true,
                }
            }
            1 => {
                let content = Content {
                    topic: "a/#".to_owned(),
                    delay_seconds: None,
                    ..self.content(client)
                };
                self.clients[client].publish(content)
            }
            2 => {
                let is_open =
                    !self.shell.links[link].server_closed && self.shell.links[link].reading;
                if is_open {
                    self.close(link, Closed::Refused(ReasonCode::MalformedPacket));
                }
                return;
            }
            3 => {
                // More than the broker's Receive Maximum.
                for _ in 0..self.shell.scenario.limits.receive_maximum {
                    let content = self.content(client);
                    let packet = self.clients[client].publish(content);
                    self.send(link, packet);
                }
                return;
            }
            4 | 5 => match self.clients[client].repetition(&mut self.shell.rng) {
                Some(packet) => {
                    self.shell.model.cover.hit("QoS 2 publish repeated on its connection");
                    packet
                }
                None => return,
            },
            _ => self.clients[client].nonsense(&mut self.shell.rng),
        };
        self.send(link, packet);
    }

    /// Some client reads.
    pub(crate) fn read(&mut self) {
        let client = self.shell.rng.below(self.clients.len());
        for _ in 0..self.shell.rng.pick(&[1, 2, 10]) {
            if !self.read_one(client) {
                return;
            }
        }
    }

    /// A client reads one packet; false if there is none.
    pub(crate) fn read_one(&mut self, client: usize) -> bool {
        let Some(link) = self.clients[client].link else {
            return false;
        };
        let Some(packet) = self.shell.links[link].to_client.pop_front() else {
            return false;
        };
        trace!(self.shell, "client {client} reads {packet:?}");
        for packet in self.clients[client].receive(&packet) {
            self.send(link, packet);
        }
        let is_refused = matches!(packet, ToClient::ConnAck { code, .. } if code.is_error());
        if is_refused || matches!(packet, ToClient::Close) {
            self.shell.links[link].client_closed = true;
        }
        true
    }
}
