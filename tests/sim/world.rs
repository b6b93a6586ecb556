//! The run of one seed: one step after the other, chosen by chance, then the end.
//! What must not live here: what clients say (`client`) and what is right (`model`).

use std::sync::Arc;

use wasmqtt_core::event::{Closed, Event, Mail};
use wasmqtt_core::ids::{TenantId, WorkerId};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::router::{Shared, TenantShared};
use wasmqtt_core::store::StoreFault;
use wasmqtt_core::worker::{Setup, Worker};

use crate::client::Client;
use crate::coverage::Coverage;
use crate::model::{ClientFacts, Model, START};
use crate::packet::FromClient;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::shell::{LinkIx, SimShell};
use crate::store::Store;
use crate::trace;

/// A run.
pub(crate) struct World {
    pub(crate) workers: Vec<Worker<SimShell>>,
    pub(crate) tenant: Arc<TenantShared>,
    pub(crate) shell: SimShell,
    pub(crate) clients: Vec<Client>,
}

/// How a run ended.
pub(crate) struct Report {
    pub(crate) violation: Option<String>,
    pub(crate) cover: Coverage,
    pub(crate) trace: Vec<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, traced: bool) -> Report {
    World::new(seed).run(traced, |_| true)
}

/// Runs the scenario of a seed with steps that are decided by bytes, for as long as they last. The
/// end is the seed's.
pub(crate) fn run_choices(seed: u64, choices: &[u8], traced: bool) -> Report {
    let mut world = World::new(seed);
    world.shell.rng = Rng::with_choices(seed, choices);
    world.run(traced, |world| world.shell.rng.has_choices())
}

impl World {
    fn run(mut self, traced: bool, goes_on: impl Fn(&Self) -> bool) -> Report {
        self.shell.trace = traced.then(Vec::new);
        trace!(self.shell, "{:#?}", self.shell.scenario);
        for _ in 0..self.shell.scenario.steps {
            if self.is_over() || !goes_on(&self) {
                break;
            }
            self.step();
        }
        self.finish();
        let SimShell { mut model, trace, .. } = self.shell;
        Report {
            violation: model.violation.take(),
            cover: model.cover,
            trace: trace.unwrap_or_default(),
        }
    }

    fn new(seed: u64) -> Self {
        let scenario = Scenario::of(seed);
        let shared = Arc::new(Shared::new(scenario.strategies.clone()));
        let tenant = shared.add_tenant(TenantId::DEFAULT, "default".into());
        let setup = |id| Setup {
            id: WorkerId(id),
            workers: scenario.workers,
            seed,
            shared: Arc::clone(&shared),
            limits: scenario.limits.clone(),
            access: scenario.judge.access.clone().into(),
            topics: Arc::default(),
        };
        let workers: Vec<_> = (0..scenario.workers).map(|id| Worker::new(setup(id))).collect();
        let facts = scenario.clients.iter().enumerate().map(|(index, plan)| ClientFacts {
            name: format!("client{index}"),
            id: plan.id.clone(),
            version: plan.version,
            payload_bytes_max: plan.payload_bytes_max,
        });
        let model = Model::new(scenario.limits.clone(), scenario.judge.clone(), facts.collect());
        let clients = scenario.clients.iter().cloned().map(Client::new).collect();
        let boxes = || workers.iter().map(|_| std::collections::VecDeque::new()).collect();
        let shell = SimShell {
            worker: 0,
            now: START,
            rng: Rng::new(seed),
            chaos: true,
            links: Vec::new(),
            mail: workers.iter().map(|_| boxes()).collect(),
            parked: workers.iter().map(|_| Vec::new()).collect(),
            store: Store::new(scenario.workers),
            model,
            arriving: std::collections::HashSet::new(),
            trace: None,
            scenario,
        };
        Self { workers, tenant, shell, clients }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.shell.model.violation.is_some()
    }

    fn step(&mut self) {
        let weights = self.shell.scenario.weights.clone();
        let kinds: [(u32, fn(&mut Self)); 14] = [
            (weights.act, Self::act),
            (weights.read, Self::read),
            (weights.hand, Self::hand_some),
            (weights.mail, Self::hand_mail),
            (weights.hook, Self::answer_hook),
            (weights.store, Self::answer_store),
            (weights.writable, Self::writable),
            (weights.close, Self::tell_closed),
            (weights.flush, Self::flush_one),
            (weights.time, Self::pass_time),
            (weights.settle, Self::settle),
            (weights.late, Self::late),
            (weights.kick, Self::kick),
            (weights.replay, Self::replay),
        ];
        let total: u32 = kinds.iter().map(|(weight, _)| weight).sum();
        let mut dice = self.shell.rng.below(total as usize) as u32;
        for (weight, kind) in kinds {
            if dice < weight {
                return kind(self);
            }
            dice -= weight;
        }
    }

    fn pick_link(&mut self, which: impl Fn(&Self, LinkIx) -> bool) -> Option<LinkIx> {
        let found: Vec<LinkIx> =
            (0..self.shell.links.len()).filter(|link| which(self, *link)).collect();
        if found.is_empty() { None } else { Some(self.shell.rng.pick(&found)) }
    }

    /// Begins an event of a worker.
    pub(crate) fn begin(&mut self, worker: usize) {
        self.shell.worker = worker;
        self.shell.model.step += 1;
    }

    /// Gives a worker an event, and perhaps ends its run of events.
    pub(crate) fn handle(&mut self, worker: usize, event: Event<'_>) {
        let now = self.shell.now;
        self.workers[worker].handle(now, event, &mut self.shell);
        if self.shell.rng.chance(self.shell.scenario.flush_percent) {
            self.flush(worker);
        }
    }

    pub(crate) fn flush(&mut self, worker: usize) {
        self.shell.worker = worker;
        self.workers[worker].flush(&mut self.shell);
    }

    fn flush_one(&mut self) {
        let worker = self.shell.rng.below(self.workers.len());
        self.flush(worker);
    }

    fn hand_some(&mut self) {
        let is_it = |world: &Self, link: LinkIx| {
            let wire = &world.shell.links[link];
            !wire.to_server.is_empty() && (wire.reading || wire.server_closed)
        };
        let Some(link) = self.pick_link(is_it) else {
            return;
        };
        for _ in 0..self.shell.rng.pick(&[1, 1, 2, 5]) {
            self.hand(link);
        }
    }

    /// Gives a worker the next packet of a connection, if it reads. After the worker closed it,
    /// what was read already may still come.
    pub(crate) fn hand(&mut self, link: LinkIx) {
        let wire = &mut self.shell.links[link];
        if !wire.reading && !wire.server_closed {
            return;
        }
        let Some(packet) = wire.to_server.pop_front() else {
            return;
        };
        let (worker, Some(slot)) = (wire.worker, wire.slot) else {
            return;
        };
        trace!(self.shell, "{} {link} > {packet:?}", self.shell.model.step + 1);
        self.begin(worker);
        self.shell.model.on_packet(link, &packet);
        packet.with(|packet| self.handle(worker, Event::Packet(slot, packet)));
        self.shell.model.check_link(link);
    }

    fn hand_mail(&mut self) {
        let mut found = Vec::new();
        for (from, boxes) in self.shell.mail.iter().enumerate() {
            for (to, mail) in boxes.iter().enumerate() {
                if !mail.is_empty() {
                    found.push((from, to));
                }
            }
        }
        if found.is_empty() {
            return;
        }
        let (from, to) = self.shell.rng.pick(&found);
        for _ in 0..self.shell.rng.pick(&[1, 1, 2, 5]) {
            self.hand_mail_from(from, to);
        }
    }

    fn hand_mail_from(&mut self, from: usize, to: usize) {
        let Some(mail) = self.shell.mail[from][to].pop_front() else {
            return;
        };
        trace!(self.shell, "{} mail {from} -> {to} arrives", self.shell.model.step + 1);
        match &mail {
            Mail::Take { slot, .. } => {
                if self.shell.arriving.contains(&(to, *slot)) {
                    self.shell.model.cover.hit("session asked for while it arrives");
                }
            }
            Mail::Moved { slot, .. } => {
                self.shell.arriving.remove(&(to, *slot));
            }
            Mail::Fence { .. } => {
                if !self.shell.store.pending[to].is_empty() {
                    self.shell.model.cover.hit("fence with an open commit");
                }
            }
            Mail::Deliver { .. }
            | Mail::Share { .. }
            | Mail::ShareAgain(_)
            | Mail::FenceDone { .. } => {}
        }
        self.begin(to);
        self.handle(to, Event::Mail(mail));
    }

    fn answer_hook(&mut self) {
        let parked = &self.shell.parked;
        let found: Vec<usize> =
            (0..self.workers.len()).filter(|worker| !parked[*worker].is_empty()).collect();
        if found.is_empty() {
            return;
        }
        let worker = self.shell.rng.pick(&found);
        let at = self.shell.rng.below(self.shell.parked[worker].len());
        let (token, answer) = self.shell.parked[worker].swap_remove(at);
        trace!(self.shell, "{} hook {token:?} answers {answer:?}", self.shell.model.step + 1);
        self.begin(worker);
        self.handle(worker, Event::HookDone(token, answer));
    }

    fn answer_store(&mut self) {
        let pending = &self.shell.store.pending;
        let found: Vec<usize> =
            (0..self.workers.len()).filter(|worker| !pending[*worker].is_empty()).collect();
        if found.is_empty() {
            return;
        }
        let worker = self.shell.rng.pick(&found);
        let fails =
            self.shell.chaos && self.shell.rng.chance(self.shell.scenario.commit_fail_percent);
        let (batch, result) = if fails {
            self.shell.model.cover.hit("commit failed");
            self.shell.model.store_failed = true;
            let fault = self.shell.rng.pick(&[StoreFault::Full, StoreFault::Failed]);
            (self.shell.store.fail(worker), Err(fault))
        } else {
            (self.shell.store.commit(worker), Ok(()))
        };
        let Some(batch) = batch else { return };
        trace!(self.shell, "{} {batch:?} of {worker}: {result:?}", self.shell.model.step + 1);
        self.begin(worker);
        self.handle(worker, Event::Persisted(batch, result));
    }

    /// Has a worker go on with retained messages.
    fn replay(&mut self) {
        let Some(worker) = self.workers.iter().position(Worker::is_replaying) else {
            return;
        };
        self.shell.model.cover.hit("replay goes on");
        trace!(self.shell, "{} worker {worker} goes on replaying", self.shell.model.step + 1);
        self.begin(worker);
        self.handle(worker, Event::Replay);
    }

    fn writable(&mut self) {
        let Some(link) = self.pick_link(Self::is_writable) else {
            return;
        };
        self.hand_writable(link);
    }

    fn is_writable(&self, link: LinkIx) -> bool {
        let wire = &self.shell.links[link];
        wire.writable_due && !wire.server_closed && wire.to_client.len() < wire.capacity
    }

    fn hand_writable(&mut self, link: LinkIx) {
        self.shell.links[link].writable_due = false;
        let (worker, Some(slot)) = (self.shell.links[link].worker, self.shell.links[link].slot)
        else {
            return;
        };
        trace!(self.shell, "{} {link} writable", self.shell.model.step + 1);
        self.begin(worker);
        self.handle(worker, Event::Writable(slot));
    }

    fn tell_closed(&mut self) {
        let is_it = |world: &Self, link: LinkIx| {
            world.shell.links[link].client_closed && !world.shell.links[link].told
        };
        let Some(link) = self.pick_link(is_it) else {
            return;
        };
        self.close(link, Closed::Network);
    }

    /// Tells a worker that a connection is over.
    pub(crate) fn close(&mut self, link: LinkIx, closed: Closed) {
        let wire = &mut self.shell.links[link];
        wire.told = true;
        wire.to_server.clear();
        let (worker, Some(slot)) = (wire.worker, wire.slot) else {
            return;
        };
        trace!(self.shell, "{} {link} is over: {closed:?}", self.shell.model.step + 1);
        self.begin(worker);
        match closed {
            Closed::Network => self.shell.model.lose(link, true),
            Closed::Refused(code) => self.shell.model.on_refused(link, code),
        }
        self.handle(worker, Event::Closed(slot, closed));
        self.shell.model.check_link(link);
    }

    pub(crate) fn pass_time(&mut self) {
        let most = self.shell.scenario.time_step_ms;
        let by = self.shell.rng.within(1, most);
        self.advance(by);
        for worker in 0..self.workers.len() {
            if self.shell.rng.chance(70) {
                self.tick(worker);
            }
        }
    }

    pub(crate) fn advance(&mut self, by_ms: u64) {
        self.shell.now = self.shell.now + by_ms;
        trace!(self.shell, "time {}", self.shell.now.0);
        self.shell.model.now = self.shell.now;
        self.shell.model.step += 1;
        self.shell.model.on_time();
    }

    fn tick(&mut self, worker: usize) {
        self.begin(worker);
        let unix_seconds = self.shell.now.0 / 1000;
        let was_deaf = self.shell.rng.chance(5);
        if was_deaf {
            let links = 0..self.shell.links.len();
            for link in links.filter(|link| self.shell.links[*link].worker == worker) {
                self.shell.model.on_heard(link);
            }
        }
        self.handle(worker, Event::Tick { unix_seconds, was_deaf });
    }

    /// Lets everything come to rest that is on its way in and between the workers.
    fn rest(&mut self) {
        for _ in 0..100_000 {
            if self.is_over() {
                return;
            }
            for worker in 0..self.workers.len() {
                self.flush(worker);
            }
            let has_mail = self.shell.mail.iter().flatten().any(|mail| !mail.is_empty());
            if has_mail {
                self.hand_mail();
            } else if self.shell.parked.iter().any(|parked| !parked.is_empty()) {
                self.answer_hook();
            } else if !self.shell.store.is_idle() {
                self.answer_store();
            } else if let Some(link) = self.pick_link(Self::is_writable) {
                self.hand_writable(link);
            } else if self.workers.iter().any(Worker::is_replaying) {
                self.replay();
            } else {
                return;
            }
        }
        self.shell.model.fail("the workers never come to rest".to_owned());
    }

    /// Lets everything come to rest, and has the model look.
    pub(crate) fn settle(&mut self) {
        for _ in 0..3 {
            self.rest();
            for worker in 0..self.workers.len() {
                self.tick(worker);
            }
        }
        self.rest();
        if self.is_over() {
            return;
        }
        if let Some(worker) = self.workers.iter().position(|worker| !worker.is_settled()) {
            self.shell.model.fail(format!("worker {worker} waits for something"));
        }
        self.shell.model.step += 1;
        trace!(self.shell, "{} settled", self.shell.model.step);
        for link in 0..self.shell.links.len() {
            let wire = &self.shell.links[link];
            if wire.to_client.len() >= wire.capacity {
                self.shell.model.on_congested(link);
            }
        }
        let (sessions, most) =
            (self.tenant.directory().len(), self.shell.scenario.limits.sessions_max);
        if sessions > most {
            self.shell.model.fail(format!("{sessions} sessions, of {most} at most"));
        }
        let SimShell { model, store, .. } = &mut self.shell;
        model.settle(&self.tenant.retained(), self.tenant.subscriptions(), store);
    }

    /// Late events of a connection that is over touch nothing.
    fn late(&mut self) {
        let is_it = |world: &Self, link: LinkIx| world.shell.links[link].server_closed;
        let Some(link) = self.pick_link(is_it) else {
            return;
        };
        let (worker, Some(slot)) = (self.shell.links[link].worker, self.shell.links[link].slot)
        else {
            return;
        };
        self.shell.model.cover.hit("late event");
        let client = self.shell.links[link].client;
        let packet = match self.shell.rng.below(6) {
            0 => {
                let content = self.content(client);
                FromClient::Publish { content, packet_id: None, dup: false, alias: false }
            }
            1 => self.clients[client].acks.front().cloned().unwrap_or(FromClient::Ping),
            2 => self.subscribe_packet(client),
            3 => FromClient::Disconnect {
                code: ReasonCode::Success,
                session_expiry_seconds: Some(0),
            },
            4 => {
                trace!(self.shell, "{} {link} closed, late", self.shell.model.step + 1);
                self.begin(worker);
                return self.handle(worker, Event::Closed(slot, Closed::Network));
            }
            _ => {
                self.begin(worker);
                return self.handle(worker, Event::Writable(slot));
            }
        };
        trace!(self.shell, "{} {link} > late {packet:?}", self.shell.model.step + 1);
        self.begin(worker);
        packet.with(|packet| self.handle(worker, Event::Packet(slot, packet)));
    }

    fn kick(&mut self) {
        if !self.shell.rng.chance(10) {
            return;
        }
        let client = self.shell.rng.below(self.clients.len());
        let is_gone = self.shell.rng.chance(50);
        self.shell.model.cover.hit(if is_gone { "user removed" } else { "client kicked" });
        if is_gone {
            self.shell.model.on_removal(client);
        }
        for worker in 0..self.workers.len() {
            let links: Vec<LinkIx> = (0..self.shell.links.len())
                .filter(|link| self.shell.links[*link].worker == worker)
                .collect();
            trace!(self.shell, "{} worker {worker} kicks {client}", self.shell.model.step + 1);
            self.begin(worker);
            self.shell.model.on_kick(client, &links);
            let principal = self.shell.model.clients[client].name.as_str().into();
            let code = ReasonCode::AdministrativeAction;
            self.handle(
                worker,
                Event::Kick { tenant: TenantId::DEFAULT, principal, code, is_gone },
            );
            for link in links {
                self.shell.model.check_link(link);
            }
        }
        if is_gone {
            self.shell.model.after_removal(client);
        }
    }
}
