//! One worker thread: its core, its mailbox, its timer.
//! What must not live here: sockets (`net::connection`) and decisions (the core).

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use ntex::SharedCfg;
use ntex::io::IoConfig;
use ntex::util::BytePageSize;
use wasmqtt_core::action::AccessOrder;
use wasmqtt_core::event::{Connect, Event};
use wasmqtt_core::ids::{ConnSlot, TenantId, WorkerId};
use wasmqtt_core::limits::Limits;
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::router::Shared;
use wasmqtt_core::router::traffic::Traffic;
use wasmqtt_core::time::Millis;
use wasmqtt_core::worker::{Setup, TopicSettings, Worker};

use crate::auth::AuthChain;
use crate::clock;
use crate::mailbox::{Letter, Mailbox, WorkerStatus};
use crate::net::connection;
use crate::net::link::Link;
use crate::net::socket::BUFFER_BYTES_MAX;
use crate::plugins::Hooks;
use crate::shell::ServerShell;

/// How long mail is handled before the sockets have their turn.
const MAIL_TURN_MS: u64 = 2;

/// Letters that are handled between two looks at the clock.
const MAIL_STEP: usize = 16;

/// Letters that are handled before connections are closed at shutdown.
const LAST_LETTERS_MAX: usize = 256;

/// A tick that comes later than this found the worker busy with something else.
const LATE_TICK_MS: u64 = 1500;

/// What every worker is made from.
pub(crate) struct Common {
    pub(crate) workers: u16,
    pub(crate) seed: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) access: AccessOrder,
    pub(crate) topics: Arc<TopicSettings>,
    pub(crate) response_information: Option<Arc<str>>,
    pub(crate) rules: Vec<(TenantId, Arc<wasmqtt_core::access::RuleSet>)>,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) auth: Arc<AuthChain>,
    pub(crate) hooks: Hooks,
}

/// The worker of one thread.
pub(crate) struct WorkerCell {
    core: RefCell<Worker<ServerShell>>,
    shell: RefCell<ServerShell>,
    mailboxes: Arc<[Mailbox]>,
    auth: Arc<AuthChain>,
    shared: Arc<Shared>,
    id: WorkerId,
    /// Connections that wait until other workers have caught up.
    stalled: RefCell<Vec<Link>>,
    stream_config: SharedCfg,
    layered_config: SharedCfg,
}

/// Runs a worker on this thread until it is told to exit.
pub(crate) fn run(id: WorkerId, common: &Common) {
    let cell = start(id, common);
    ntex::rt::System::new("worker", Reactor).block_on(async move {
        let tick = Rc::clone(&cell);
        tokio::task::spawn_local(async move { tick.tick().await });
        cell.read_mail().await;
    });
}

/// A thread's event loop: tokio's.
struct Reactor;

impl ntex::rt::Runner for Reactor {
    fn block_on(&self, task: ntex::rt::BlockFuture) -> Result<(), Box<dyn Any + Send>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Box::new(error) as Box<dyn Any + Send>)?;
        tokio::task::LocalSet::new().block_on(&runtime, task);
        Ok(())
    }
}

fn stream_config(written_at_once_bytes: usize) -> SharedCfg {
    let io = IoConfig::new()
        .set_read_buf(BUFFER_BYTES_MAX, 4 * 1024, 32)
        .set_write_page_size(BytePageSize::Size4)
        .set_write_buf(256 * 1024, 4 * 1024, 32)
        .set_write_buf_threshold(written_at_once_bytes);
    SharedCfg::new("mqtt").add(io).into()
}

fn start(id: WorkerId, common: &Common) -> Rc<WorkerCell> {
    let setup = Setup {
        id,
        workers: common.workers,
        seed: common.seed,
        shared: Arc::clone(&common.shared),
        limits: Limits::clone(&common.limits),
        access: Arc::clone(&common.access),
        topics: Arc::clone(&common.topics),
    };
    let mut shell = ServerShell::new(
        id,
        Arc::clone(&common.limits),
        common.response_information.clone(),
        Arc::clone(&common.mailboxes),
        Arc::clone(&common.auth),
        common.hooks.for_worker(),
    );
    let mut core = Worker::new(setup);
    for (tenant, rules) in &common.rules {
        core.handle(Millis(0), Event::Rules(*tenant, Arc::clone(rules)), &mut shell);
    }
    Rc::new(WorkerCell {
        core: RefCell::new(core),
        shell: RefCell::new(shell),
        mailboxes: Arc::clone(&common.mailboxes),
        auth: Arc::clone(&common.auth),
        shared: Arc::clone(&common.shared),
        id,
        stalled: RefCell::default(),
        stream_config: stream_config(32 * 1024),
        layered_config: stream_config(1),
    })
}

impl WorkerCell {
    /// Hands one event to the core. What it calls for beyond this worker waits for
    /// [`Self::end_turn`].
    pub(crate) fn handle(&self, now: Millis, event: Event<'_>) {
        self.core.borrow_mut().handle(now, event, &mut self.shell.borrow_mut());
    }

    /// The core and the shell, for a run of events.
    pub(crate) fn with<R>(
        &self,
        then: impl FnOnce(&mut Worker<ServerShell>, &mut ServerShell) -> R,
    ) -> R {
        then(&mut self.core.borrow_mut(), &mut self.shell.borrow_mut())
    }

    pub(crate) fn connect(&self, now: Millis, link: Link, connect: Connect) -> ConnSlot {
        self.with(|core, shell| core.connect(now, link, connect, shell))
    }

    /// Ends a run of events: commits, mail and what was gathered for sockets leave.
    pub(crate) fn end_turn(&self, now: Millis) {
        self.with(|core, shell| {
            core.flush(shell);
            while let Some(batch) = shell.next_persisted() {
                core.handle(now, Event::Persisted(batch, Ok(())), shell);
                core.flush(shell);
            }
            shell.flush_mail();
            shell.flush_outgoing();
            if core.is_replaying() {
                self.mailboxes[self.id.index()].wake(); // it goes on after the mail
            }
        });
    }

    /// Whether other workers are so far behind that nothing more should be published.
    pub(crate) fn is_stalled(&self) -> bool {
        self.shell.borrow().is_stalled()
    }

    /// The same; the connection is woken when they have caught up, if so.
    pub(crate) fn stall(&self, link: &Link) -> bool {
        if !self.is_stalled() {
            return false;
        }
        if !link.is_stalled.replace(true) {
            self.stalled.borrow_mut().push(Rc::clone(link));
        }
        true
    }

    /// Packets' bound in bytes.
    pub(crate) fn packet_bytes_max(&self) -> u32 {
        self.shell.borrow().limits().packet_bytes_max
    }

    /// Topics that one client is sent by Topic Aliases.
    pub(crate) fn topic_aliases_max(&self) -> u16 {
        self.shell.borrow().limits().topic_aliases_max
    }

    /// What this worker counts of a tenant.
    pub(crate) fn traffic(&self, tenant: TenantId) -> Arc<Traffic> {
        let tenant = self.shared.tenant(tenant);
        tenant.map_or_else(Arc::default, |tenant| tenant.traffic(self.id))
    }

    /// What the streams of its connections are made with. What a layer, such as TLS, is given
    /// leaves at once: the layer may end with the bytes that came.
    pub(crate) fn stream_config(&self, is_layered: bool) -> SharedCfg {
        if is_layered { self.layered_config.clone() } else { self.stream_config.clone() }
    }

    /// Handles what comes by mail, until it is told to exit.
    async fn read_mail(self: &Rc<Self>) {
        let mut letters = VecDeque::new();
        let mailbox = &self.mailboxes[self.id.index()];
        loop {
            poll_fn(|cx| mailbox.poll_take(&mut letters, cx.waker())).await;
            loop {
                if self.handle_some(&mut letters).is_break() {
                    return;
                }
                self.resume();
                let is_replaying = self.core.borrow().is_replaying();
                if !letters.is_empty() || is_replaying {
                    tokio::task::yield_now().await; // the sockets' turn
                }
                if letters.is_empty() {
                    break;
                }
            }
        }
    }

    /// Handles letters for one turn, so that mail keeps no socket waiting for long.
    fn handle_some(self: &Rc<Self>, letters: &mut VecDeque<Letter>) -> ControlFlow<()> {
        let begun = clock::now();
        let mut weight = 0;
        let mut flow = ControlFlow::Continue(());
        let mut now = begun;
        if self.mailboxes[self.id.index()].take_closing() {
            // What was acknowledged before is on its way to subscribers; a flood of it can't wait.
            for letter in letters.drain(..letters.len().min(LAST_LETTERS_MAX)) {
                weight += letter.weight();
                if flow.is_continue() {
                    flow = self.handle_letter(now, letter);
                }
            }
            self.handle(begun, Event::Shutdown);
        }
        while flow.is_continue() && now.since(begun) < MAIL_TURN_MS {
            for letter in letters.drain(..letters.len().min(MAIL_STEP)) {
                weight += letter.weight();
                if flow.is_continue() {
                    flow = self.handle_letter(now, letter);
                }
            }
            if letters.is_empty() {
                break;
            }
            now = clock::now();
        }
        if self.core.borrow().is_replaying() {
            self.handle(now, Event::Replay);
        }
        self.end_turn(now);
        if self.mailboxes[self.id.index()].handled(weight) {
            self.shell.borrow().wake_others();
        }
        flow
    }

    /// Has connections that waited for other workers go on, if those caught up.
    fn resume(&self) {
        if !self.stalled.borrow().is_empty() && !self.shell.borrow().is_stalled() {
            for link in self.stalled.borrow_mut().drain(..) {
                link.is_stalled.set(false);
                link.wake();
            }
        }
    }

    fn handle_letter(self: &Rc<Self>, now: Millis, letter: Letter) -> ControlFlow<()> {
        match letter {
            Letter::Accepted(accepted) => {
                drop(tokio::task::spawn_local(connection::serve(accepted, Rc::clone(self))));
            }
            Letter::Mail(mail) => self.handle(now, Event::Mail(mail)),
            Letter::LoggedIn { token, answer, epoch } => {
                let answer = self.auth.if_current(answer, epoch);
                self.handle(now, Event::HookDone(token, answer));
            }
            Letter::Rules(tenant, rules, done) => {
                self.handle(now, Event::Rules(tenant, rules));
                let _ = done.try_send(()); // whoever asked may have left
            }
            Letter::Kick { tenant, principal, is_gone } => {
                let code = ReasonCode::AdministrativeAction;
                self.handle(now, Event::Kick { tenant, principal, code, is_gone });
            }
            Letter::Status(reply) => {
                let status = self.with(|core, _| WorkerStatus {
                    connections: core.connections(),
                    sessions: core.sessions(),
                    counters: core.counters(),
                });
                let _ = reply.try_send(status);
            }
            Letter::Shutdown(done) => {
                self.handle(now, Event::Shutdown);
                let _ = done.try_send(());
            }
            Letter::Exit => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    async fn tick(&self) {
        let mut last = clock::now();
        loop {
            ntex::time::sleep(ntex::time::Millis(1000)).await;
            let now = clock::now();
            let was_deaf = now.since(last) > LATE_TICK_MS;
            last = now;
            self.handle(now, Event::Tick { unix_seconds: clock::unix_seconds(), was_deaf });
            self.end_turn(now);
            self.resume();
        }
    }
}
