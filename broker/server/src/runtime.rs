//! A broker from start to stop: listeners, workers, control runtime, signals.
//! What must not live here: what any of them does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context;
use ntex::io::types::PeerAddr;
use ntex::io::{Io, IoConfig};
use ntex::util::BytePageSize;
use ntex::{SharedCfg, fn_service};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wasmqtt_core::access::RuleSet;
use wasmqtt_core::ids::{TenantId, WorkerId};
use wasmqtt_core::reason::ReasonCode;
use wasmqtt_core::router::Shared;
use wasmqtt_host::manifest::Hook;
use wasmqtt_store::Authenticator;

use crate::admin;
use crate::auth::{AuthChain, Step};
use crate::clock;
use crate::config::plan::RunPlan;
use crate::config::{AuthStep, Config, Listener};
use crate::mailbox::{Letter, Mailbox, WorkerStatus};
use crate::net::connection::{self, Gate};
use crate::net::decode::Origin;
use crate::plugins::Hooks;
use crate::service::view::{ListenerView, Status};
use crate::service::{Live, Parts, Service};
use crate::worker_loop::{self, Common};

/// How long a stopping broker waits for its last bytes to leave.
const DRAIN: Duration = Duration::from_millis(500);

/// How long a worker may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Runs a broker until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting.
pub(crate) fn run(plan: RunPlan) -> anyhow::Result<()> {
    let RunPlan { config, dev, instance, directory, hash_pool, engine, plugins, control, origins } =
        plan;
    raise_file_limit();
    let tenant: Arc<str> = "default".into();
    let bound = bind(&config)?;
    let hooks = match Hooks::activate(&config, &plugins, &tenant) {
        Ok(hooks) => hooks,
        Err(error) => return Err(start_error(origins, &error)),
    };
    let workers = config.workers.get();
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
    let chain = AuthChain::new(steps, TenantId::DEFAULT, dev, handle, Arc::clone(&mailboxes));
    let shared = Arc::new(Shared::default());
    shared.add_tenant(TenantId::DEFAULT, Arc::clone(&tenant));
    let common = Arc::new(Common {
        workers,
        seed: u64::from(std::process::id()) ^ clock::unix_seconds(),
        shared,
        limits: Arc::new(config.limits.core()),
        access: Arc::clone(&hooks.access),
        rules: vec![(TenantId::DEFAULT, rules)],
        mailboxes: Arc::clone(&mailboxes),
        auth: Arc::new(chain),
        hooks,
    });
    let views = bound.iter().map(|(name, _, address, _)| ListenerView {
        name: name.to_string(),
        url: format!("mqtt://{address}"),
    });
    let live = Arc::new(LiveBroker {
        mailboxes,
        workers,
        listeners: views.collect(),
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
    let timeout = config.limits.connect_timeout_seconds;
    let result = serve(bound, &common, &live, timeout, &control);
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

type Bound = (Arc<str>, TcpListener, SocketAddr, Listener);

fn bind(config: &Config) -> anyhow::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for (name, listener) in &config.listeners {
        let socket = TcpListener::bind(listener.bind).with_context(|| {
            format!("listener `{name}` can't listen on {}: is the port taken?", listener.bind)
        })?;
        let address = socket.local_addr()?;
        bound.push((Arc::clone(name), socket, address, listener.clone()));
    }
    Ok(bound)
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

/// Serves until a signal, then closes every connection and waits for the last bytes.
fn serve(
    bound: Vec<Bound>,
    common: &Arc<Common>,
    live: &Arc<LiveBroker>,
    connect_timeout_seconds: u16,
    control: &tokio::runtime::Runtime,
) -> anyhow::Result<()> {
    let stop = control.spawn(wait_for_signal());
    let live = Arc::clone(live);
    let common = Arc::clone(common);
    ntex::rt::System::new("wasmqtt", ntex::rt::DefaultRuntime).block_on(async move {
        let server = start_server(bound, &common, connect_timeout_seconds)?;
        announce(&live.listeners)?;
        let signal = stop.await.context("waiting for signals")?;
        tracing::info!("stopping on {signal}");
        live.close_all();
        ntex::time::sleep(ntex::time::Millis::from(DRAIN)).await;
        server.stop(true).await;
        Ok(())
    })
}

fn start_server(
    bound: Vec<Bound>,
    common: &Arc<Common>,
    connect_timeout_seconds: u16,
) -> anyhow::Result<ntex::server::Server> {
    let numbers = Arc::new(AtomicU16::new(0));
    let mut builder = ntex::server::build()
        .workers(usize::from(common.workers))
        .disable_signals()
        .maxconn(1_000_000)
        .backlog(4096)
        .shutdown_timeout(ntex::time::Millis(1000));
    for (name, socket, _, listener) in bound {
        let (common, numbers) = (Arc::clone(common), Arc::clone(&numbers));
        let gate = Gate {
            connections_max: listener.connections_max.div_ceil(u32::from(common.workers)),
            connect_timeout_seconds,
        };
        let tag = name.to_string();
        let factory = async move |_: ntex::server::Config| {
            if worker_loop::current().is_none() {
                let number = numbers.fetch_add(1, Ordering::SeqCst) % common.workers;
                worker_loop::start(WorkerId(number), &common);
            }
            let listener = Arc::clone(&name);
            fn_service(async move |io: Io| {
                let origin = origin(&io, &listener);
                connection::serve(io, origin, gate).await;
                Ok::<_, std::convert::Infallible>(())
            })
        };
        builder = builder.listen(&tag, socket, factory)?.config(&tag, io_config());
    }
    Ok(builder.run())
}

fn origin(io: &Io, listener: &Arc<str>) -> Origin {
    let peer = io.query::<PeerAddr>().get();
    Origin {
        tenant: TenantId::DEFAULT,
        tenant_name: "default".into(),
        listener: Arc::clone(listener),
        peer: peer.map_or_else(String::new, |peer| peer.0.to_string()).into(),
    }
}

fn io_config() -> SharedCfg {
    let io = IoConfig::new()
        .set_read_buf(64 * 1024, 4 * 1024, 32)
        .set_write_page_size(BytePageSize::Size4)
        .set_write_buf(256 * 1024, 4 * 1024, 32)
        .set_write_buf_threshold(32 * 1024);
    SharedCfg::new("mqtt").add(io).into()
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

async fn wait_for_signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// The running broker, for the admin interface.
struct LiveBroker {
    mailboxes: Arc<[Mailbox]>,
    workers: u16,
    listeners: Vec<ListenerView>,
    started: wasmqtt_core::time::Millis,
}

impl LiveBroker {
    fn close_all(&self) {
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

    fn principal_changed(&self, tenant: TenantId, name: &str) {
        for mailbox in self.mailboxes.iter() {
            let (principal, code) = (name.into(), ReasonCode::AdministrativeAction);
            mailbox.post(Letter::Kick { tenant, principal, code });
        }
    }

    fn status(&self) -> Status {
        let mut sum = WorkerStatus::default();
        for status in self.ask(Letter::Status) {
            sum.connections += status.connections;
            sum.sessions += status.sessions;
            sum.counters.messages_received += status.counters.messages_received;
            sum.counters.messages_sent += status.counters.messages_sent;
            sum.counters.messages_dropped += status.counters.messages_dropped;
            sum.counters.denied += status.counters.denied;
        }
        let counters = [
            ("connections", sum.connections as u64),
            ("sessions", sum.sessions as u64),
            ("messages_received", sum.counters.messages_received),
            ("messages_sent", sum.counters.messages_sent),
            ("messages_dropped", sum.counters.messages_dropped),
            ("denied", sum.counters.denied),
        ];
        let named = counters.map(|(name, count)| (Cow::Borrowed(name), count));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: clock::now().since(self.started) / 1000,
            workers: self.workers,
            listeners: self.listeners.clone(),
            counters: BTreeMap::from(named),
        }
    }
}
