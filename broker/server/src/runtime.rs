//! A broker from start to stop: listeners, workers, control runtime, signals.
//! What must not live here: what any of them does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use wasmqtt_core::access::RuleSet;
use wasmqtt_core::ids::{TenantId, WorkerId};
use wasmqtt_core::reason::DropReason;
use wasmqtt_core::router::Shared;
use wasmqtt_host::manifest::Hook;
use wasmqtt_store::Authenticator;

use crate::admin;
use crate::auth::{AuthChain, Exchanger, Step};
use crate::certificates::{CertificateError, Certificates};
use crate::clock;
use crate::config::plan::RunPlan;
use crate::config::{AuthStep, Config};
use crate::mailbox::{Letter, Mailbox, WorkerStatus};
use crate::net::listener::{self, Bound, Gate};
use crate::plugins::Hooks;
use crate::service::view::{ListenerView, ReloadedView, Status};
use crate::service::{Live, Parts, Service};
use crate::worker_loop::{self, Common};

/// How long a stopping broker waits for its last bytes to leave.
const DRAIN: Duration = Duration::from_millis(500);

/// How often it looks whether they have.
const DRAIN_STEP: Duration = Duration::from_millis(2);

/// How long a worker may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Runs a broker until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting.
pub(crate) fn run(plan: RunPlan) -> anyhow::Result<()> {
    let RunPlan {
        config,
        dev,
        instance,
        directory,
        hash_pool,
        engine,
        plugins,
        certificates,
        control,
        origins,
    } = plan;
    raise_file_limit();
    let tenant: Arc<str> = "default".into();
    let workers = config.workers.get();
    let by_worker: Arc<[AtomicU32]> = (0..workers).map(|_| AtomicU32::new(0)).collect();
    let bound: Vec<Bound> = config
        .listeners
        .keys()
        .map(|name| {
            let tls = certificates.get(name).map(Arc::clone);
            listener::bind(name, &config, tls, &by_worker)
        })
        .collect::<anyhow::Result<_>>()?;
    let hooks = match Hooks::activate(&config, &plugins, &tenant) {
        Ok(hooks) => hooks,
        Err(error) => return Err(start_error(origins, &error)),
    };
    let mailboxes: Arc<[Mailbox]> = (0..workers).map(|_| Mailbox::default()).collect();
    let (rules, authenticator) = match (&directory, &hash_pool) {
        (Some(directory), Some(pool)) => {
            let rules = control.block_on(directory.rule_set(TenantId::DEFAULT))?;
            let authenticator = Authenticator::new(directory.clone(), Arc::clone(pool))?;
            (Arc::new(rules), Some(Arc::new(authenticator)))
        }
        _ => (Arc::new(RuleSet::allow_all()), None),
    };
    let steps = auth_steps(&config, &hooks, authenticator.as_ref());
    let handle = control.handle().clone();
    let exchangers = exchangers(&config, &hooks);
    let boxes = Arc::clone(&mailboxes);
    let chain = AuthChain::new(steps, exchangers, TenantId::DEFAULT, dev, handle, boxes);
    let shared = Arc::new(Shared::new(config.shared.clone()));
    shared.add_tenant(TenantId::DEFAULT, Arc::clone(&tenant));
    let common = Arc::new(Common {
        workers,
        seed: u64::from(std::process::id()) ^ clock::unix_seconds(),
        shared,
        limits: Arc::new(config.limits.core()),
        access: Arc::clone(&hooks.access),
        topics: Arc::new(config.topics.core()),
        response_information: config.topics.response_information.clone(),
        rules: vec![(TenantId::DEFAULT, rules)],
        mailboxes: Arc::clone(&mailboxes),
        auth: Arc::new(chain),
        hooks,
    });
    let views = bound
        .iter()
        .map(|bound| ListenerView { name: bound.gate.name.to_string(), url: bound.url.clone() });
    let live = Arc::new(LiveBroker {
        auth: Arc::clone(&common.auth),
        mailboxes,
        workers,
        listeners: views.collect(),
        certificates,
        started: clock::now(),
    });
    let admin = match (&instance, directory.clone(), hash_pool) {
        (Some(instance), Some(directory), Some(hash_pool)) => {
            let live: Arc<dyn Live> = Arc::clone(&live) as Arc<dyn Live>;
            let config = Arc::clone(&config);
            let parts = Parts {
                directory,
                hash_pool: Some(hash_pool),
                config,
                plugins,
                hooks: Some(common.hooks.clone()),
                live: Some(live),
            };
            let router = admin::router::router(Arc::new(Service::new(parts)));
            let entered = control.enter();
            let server = admin::server::start(instance, router)?;
            drop(entered);
            Some(server)
        }
        _ => None,
    };
    let result = serve(bound, &common, &live, &control);
    if let Some(admin) = admin {
        control.block_on(admin.stop())?;
    }
    if let Some(directory) = directory {
        control.block_on(directory.close());
    }
    drop(engine);
    control.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Each connection is a file: takes as many as the system lets this process have.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(files = limit.current, "the limit of open files stays: {error}");
    }
}

fn start_error(
    origins: crate::config::plan::Origins,
    error: &wasmqtt_host::active::ActivateError,
) -> anyhow::Error {
    use wasmqtt_host::active::ActivateError as E;
    match error {
        E::Start { name, text } | E::Config { name, text } => {
            origins.plugin_failed(name, text, None).into()
        }
        E::SameName { .. }
        | E::NoSuchHook { .. }
        | E::ChainTooLong
        | E::TooManyTopics { .. }
        | E::Thread(_) => anyhow::Error::msg(error.to_string()),
    }
}

fn auth_steps(
    config: &Config,
    hooks: &Hooks,
    authenticator: Option<&Arc<Authenticator>>,
) -> Vec<Step> {
    let steps = config.auth_order.iter().filter_map(|step| match step {
        AuthStep::Anonymous => Some(Step::Anonymous),
        AuthStep::Password => authenticator.map(|known| Step::Password(Arc::clone(known))),
        AuthStep::Plugin(name) => {
            let index = hooks.active.find(name, Hook::Authenticate)?;
            Some(Step::Plugin(Arc::clone(&hooks.active), index))
        }
    });
    steps.collect()
}

/// Whom the configuration names for exchanges of AUTH packets.
fn exchangers(config: &Config, hooks: &Hooks) -> Vec<Exchanger> {
    let found = config.auth_exchange.iter().filter_map(|name| {
        let index = hooks.active.find(name, Hook::AuthExchange)?;
        Some((Arc::clone(&hooks.active), index))
    });
    found.collect()
}

/// Serves until a signal, then closes every connection and waits for the last bytes.
fn serve(
    bound: Vec<Bound>,
    common: &Arc<Common>,
    live: &Arc<LiveBroker>,
    control: &tokio::runtime::Runtime,
) -> anyhow::Result<()> {
    let (signal, hangup) =
        control.block_on(async { anyhow::Ok((Signals::new()?, catch(SignalKind::hangup())?)) })?;
    let (ended, mut thread_ended) = mpsc::channel(1);
    let mut workers = Vec::new();
    for number in 0..common.workers {
        let common = Arc::clone(common);
        let run = move || worker_loop::run(WorkerId(number), &common);
        workers.push(spawn(format!("worker-{number}"), &ended, run)?);
    }
    let (stop, stopping) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let stop = Arc::new(stop);
    let mut listeners = Vec::new();
    let gates: Vec<Arc<Gate>> = bound.iter().map(|bound| Arc::clone(&bound.gate)).collect();
    for bound in bound {
        let (mailboxes, stop) = (Arc::clone(&live.mailboxes), Arc::clone(&stop));
        let accept = move || listener::accept(&bound, &mailboxes, &stop);
        listeners.push(spawn("listener".to_owned(), &ended, accept)?);
    }
    let reload = control.spawn(reload_on(hangup, Arc::clone(live)));
    announce(&live.listeners)?;
    let result = control.block_on(async {
        tokio::select! {
            signal = signal.wait() => Ok(signal),
            _ = thread_ended.recv() => Err(anyhow::anyhow!("a thread of the broker has failed")),
        }
    });
    reload.abort();
    tracing::info!("stopping on {}", result.as_ref().unwrap_or(&"a failure"));
    drop(stopping);
    for listener in listeners {
        join(listener)?.context("a listener has failed")?;
    }
    live.close_all();
    control.block_on(drain(&gates));
    for mailbox in live.mailboxes.iter() {
        mailbox.post(Letter::Exit);
    }
    for worker in workers {
        join(worker)?;
    }
    result.map(|_| ())
}

/// Starts a thread; that it has ended is said on `ended`, however it comes about.
fn spawn<R: Send + 'static>(
    name: String,
    ended: &mpsc::Sender<()>,
    run: impl FnOnce() -> R + Send + 'static,
) -> anyhow::Result<JoinHandle<R>> {
    struct Ended(mpsc::Sender<()>);
    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.try_send(()); // one is enough
        }
    }
    let ended = Ended(ended.clone());
    let thread = std::thread::Builder::new().name(name);
    let run = move || {
        let _ended = ended;
        run()
    };
    thread.spawn(run).context("starting a thread")
}

fn join<R>(thread: JoinHandle<R>) -> anyhow::Result<R> {
    let name = thread.thread().name().unwrap_or("unnamed").to_owned();
    thread.join().map_err(|_| anyhow::anyhow!("the thread `{name}` has panicked"))
}

/// Waits until no connection is left, within a bound.
async fn drain(gates: &[Arc<Gate>]) {
    let empty = async {
        while gates.iter().any(|gate| gate.connections() > 0) {
            tokio::time::sleep(DRAIN_STEP).await;
        }
    };
    if tokio::time::timeout(DRAIN, empty).await.is_err() {
        tracing::warn!("some connections did not take their last bytes in time");
    }
}

/// The two lines that scripts wait for.
fn announce(listeners: &[ListenerView]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for ListenerView { name, url } in listeners {
        writeln!(out, "listening on {url} (listener {name})")?;
    }
    writeln!(out, "ready")?;
    out.flush()?;
    Ok(())
}

/// Reads certificates anew whenever somebody asks for it.
async fn reload_on(mut hangup: Signal, live: Arc<LiveBroker>) {
    while hangup.recv().await.is_some() {
        let live = Arc::clone(&live);
        if tokio::task::spawn_blocking(move || live.reload()).await.is_err() {
            tracing::error!("reading certificates anew has failed");
        }
    }
}

/// From its making on the signal does not end the process by itself.
fn catch(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("catching signals")
}

/// The signals that end a broker.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let (terminate, interrupt) =
            (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt })
    }

    async fn wait(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The running broker, for the admin interface.
struct LiveBroker {
    auth: Arc<AuthChain>,
    mailboxes: Arc<[Mailbox]>,
    workers: u16,
    listeners: Vec<ListenerView>,
    certificates: BTreeMap<Arc<str>, Arc<Certificates>>,
    started: wasmqtt_core::time::Millis,
}

impl LiveBroker {
    fn close_all(&self) {
        self.mailboxes.iter().for_each(Mailbox::close);
        self.ask(Letter::Shutdown);
    }

    /// Asks every worker and waits for the answers that come in time.
    fn ask<T>(&self, letter: impl Fn(SyncSender<T>) -> Letter) -> Vec<T> {
        let (sender, answers) = sync_channel(usize::from(self.workers));
        for mailbox in self.mailboxes.iter() {
            mailbox.post(letter(sender.clone()));
        }
        drop(sender);
        let next = || answers.recv_timeout(ANSWER);
        std::iter::from_fn(|| next().ok()).take(usize::from(self.workers)).collect()
    }
}

impl Live for LiveBroker {
    fn rules_changed(&self, tenant: TenantId, rules: Arc<RuleSet>) {
        self.ask(|done| Letter::Rules(tenant, Arc::clone(&rules), done));
    }

    fn principal_changed(&self, tenant: TenantId, name: &str, is_gone: bool) {
        self.auth.principal_changed();
        for mailbox in self.mailboxes.iter() {
            mailbox.post(Letter::Kick { tenant, principal: name.into(), is_gone });
        }
    }

    fn reload(&self) -> Vec<ReloadedView> {
        let one = |(name, certificates): (&Arc<str>, &Arc<Certificates>)| {
            let listener = name.to_string();
            match certificates.reload() {
                Ok(words) => {
                    let warnings: Vec<String> = words.into_iter().map(|(_, word)| word).collect();
                    for warning in &warnings {
                        tracing::warn!(listener, "{warning}");
                    }
                    tracing::info!(listener, "certificates were read anew");
                    ReloadedView { listener, error: None, hint: None, warnings }
                }
                Err(CertificateError { message, hint, .. }) => {
                    tracing::error!(listener, "certificates stay as they were: {message}");
                    let hint = (!hint.is_empty()).then_some(hint);
                    ReloadedView { listener, error: Some(message), hint, warnings: Vec::new() }
                }
            }
        };
        self.certificates.iter().map(one).collect()
    }

    fn status(&self) -> Status {
        let mut sum = WorkerStatus::default();
        for status in self.ask(Letter::Status) {
            sum.connections += status.connections;
            sum.sessions += status.sessions;
            sum.counters += status.counters;
        }
        let counters = [
            ("connections", sum.connections as u64),
            ("sessions", sum.sessions as u64),
            ("messages_received", sum.counters.messages_received),
            ("messages_sent", sum.counters.messages_sent),
            ("messages_dropped", sum.counters.messages_dropped),
            ("dropped_acknowledged", sum.counters.dropped_acknowledged),
            ("denied", sum.counters.denied),
        ];
        let dropped = DropReason::ALL
            .map(|reason| (dropped_counter(reason), sum.counters.dropped_by[reason as usize]));
        let named =
            counters.into_iter().chain(dropped).map(|(name, count)| (Cow::Borrowed(name), count));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: clock::now().since(self.started) / 1000,
            workers: self.workers,
            listeners: self.listeners.clone(),
            counters: named.collect(),
        }
    }
}

/// What `status` calls the messages that were dropped for that reason.
const fn dropped_counter(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Expired => "dropped_expired",
        DropReason::TooLarge => "dropped_too_large",
        DropReason::SlowReader => "dropped_slow_reader",
        DropReason::QueueMessages => "dropped_queue_messages",
        DropReason::QueueBytes => "dropped_queue_bytes",
    }
}
