//! The end of a run: everyone comes back and gets what is due, then all leave and nothing is left.
//! What must not live here: anything by chance.

use wasmqtt_core::event::Closed;
use wasmqtt_core::reason::ReasonCode;

use crate::model::Asked;
use crate::packet::FromClient;
use crate::trace;
use crate::world::World;

impl World {
    /// Brings the run to its end.
    pub(crate) fn finish(&mut self) {
        if self.is_over() {
            return;
        }
        trace!(self.shell, "--- the end begins");
        self.shell.chaos = false;
        for link in 0..self.shell.links.len() {
            self.shell.links[link].capacity = usize::MAX;
            let client = self.shell.links[link].client;
            if self.clients[client].link != Some(link) {
                self.hand_rest(link);
            }
        }
        self.drain();
        for client in 0..self.clients.len() {
            if self.clients[client].link.is_none() && !self.clients[client].plan.id.is_empty() {
                let expiry_seconds = self.clients[client].plan.expiry_seconds;
                self.connect_as(asked(client, false, expiry_seconds));
            }
        }
        self.drain();
        if self.is_over() {
            return;
        }
        self.shell.model.check_end();
        for (index, client) in self.clients.iter().enumerate() {
            if client.link.is_some() && !client.outgoing.is_empty() {
                let uid = client.outgoing[0].content.uid;
                let why = format!("client {index}: message {uid} was never acknowledged");
                self.shell.model.fail(why);
            }
        }
        self.check_store_queues();
        if self.is_over() {
            return;
        }
        self.end_all();
        self.check_nothing_left();
    }

    /// Gives a worker all that is left of a connection, and its end.
    fn hand_rest(&mut self, link: usize) {
        while self.shell.links[link].reading && !self.shell.links[link].to_server.is_empty() {
            self.hand(link);
        }
        if !self.shell.links[link].told {
            self.close(link, Closed::Network);
        }
    }

    /// Every client reads all and acknowledges all, until nothing moves.
    fn drain(&mut self) {
        for _ in 0..1_000 {
            self.settle();
            if self.is_over() {
                return;
            }
            let mut moved = false;
            for client in 0..self.clients.len() {
                while self.read_one(client) {
                    moved = true;
                }
                let Some(link) = self.clients[client].link else {
                    continue;
                };
                while let Some(packet) = self.clients[client].acks.pop_front() {
                    self.shell.links[link].to_server.push_back(packet);
                }
                while self.shell.links[link].reading && !self.shell.links[link].to_server.is_empty()
                {
                    self.hand(link);
                    moved = true;
                    if self.is_over() {
                        return;
                    }
                }
            }
            if !moved {
                return;
            }
        }
        self.shell.model.fail("the clients never come to rest".to_owned());
    }

    /// What every client has acknowledged is not kept in the store.
    fn check_store_queues(&mut self) {
        if self.shell.model.store_failed {
            return;
        }
        let store = &self.shell.store;
        for client in &self.clients {
            let Some(link) = client.link else { continue };
            if !client.is_connected || !self.shell.model.is_live(link) || client.plan.id.is_empty()
            {
                continue;
            }
            let left = store.of_client(&client.plan.id).find(|kept| !kept.queue.is_empty());
            if let Some(kept) = left {
                let uids: Vec<_> = kept.queue.iter().map(|id| store.uid(*id)).collect();
                let why = format!("the store still keeps {uids:?} for {}", client.plan.id);
                return self.shell.model.fail(why);
            }
        }
    }

    /// All sessions end, by DISCONNECT or by Shutdown.
    fn end_all(&mut self) {
        for client in 0..self.clients.len() {
            if let Some(link) = self.clients[client].link {
                self.shell.links[link].to_server.push_back(FromClient::Disconnect {
                    code: ReasonCode::Success,
                    session_expiry_seconds: None,
                });
                self.hand_rest(link);
                self.clients[client].disconnected();
            }
        }
        self.drain();
        for client in 0..self.clients.len() {
            if !self.clients[client].plan.id.is_empty() {
                self.connect_as(asked(client, true, 0));
            }
        }
        self.drain();
        for client in 0..self.clients.len() {
            if let Some(link) = self.clients[client].link {
                self.hand_rest(link);
                self.clients[client].disconnected();
            }
        }
        self.advance(100_000_000);
        self.drain();
    }

    fn check_nothing_left(&mut self) {
        if self.is_over() {
            return;
        }
        let mut left = Vec::new();
        for (index, worker) in self.workers.iter().enumerate() {
            if worker.connections() > 0 {
                left.push(format!("{} connections on {index}", worker.connections()));
            }
            if worker.sessions() > 0 {
                left.push(format!("{} sessions on {index}", worker.sessions()));
            }
        }
        if self.tenant.subscriptions() > 0 {
            left.push(format!("{} subscriptions", self.tenant.subscriptions()));
        }
        if !self.tenant.directory().is_empty() {
            left.push(format!("{:?} in the directory", self.tenant.directory()));
        }
        if !self.shell.store.sessions.is_empty() && !self.shell.model.store_failed {
            left.push(format!("{:?} in the store", self.shell.store.sessions));
        }
        if self.tenant.delayed() > 0 {
            left.push(format!("room for {} delayed messages", self.tenant.delayed()));
        }
        if !self.shell.store.delayed.is_empty() && !self.shell.model.store_failed {
            left.push(format!("{:?} delayed in the store", self.shell.store.delayed));
        }
        if !left.is_empty() {
            self.shell.model.fail(format!("left when all are gone: {}", left.join(", ")));
        }
    }
}

const fn asked(client: usize, clean: bool, expiry_seconds: u32) -> Asked {
    Asked {
        client,
        clean,
        expiry_seconds,
        receive_maximum: u16::MAX,
        keep_alive_seconds: 0,
        will: None,
        refused: None,
        exchange: None,
    }
}
