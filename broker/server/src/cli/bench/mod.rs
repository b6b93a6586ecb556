//! `wasmqtt bench`: many clients on a few threads, a line each second, a summary at the end.
//! What must not live here: what one client does (`publish`, `subscribe`), how it is counted.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use crate::cli::arguments::bench::{Bench, Crowd};
use crate::cli::client::{Interrupts, Server, check_text, qos, server as read_server};
use crate::cli::failure::Failure;
use crate::cli::output::{json, note, say};
use crate::client::error::ClientError;
use crate::client::session::Client;
use wasmqtt_core::message::QoS;

use counters::{Counters, Total};

mod counters;
mod payload;
mod publish;
mod report;
mod subscribe;

/// Different errors that are said; all are counted.
const ERRORS_SAID_MAX: usize = 5;

/// How often one looks whether `bench sub -n` is done.
const COUNT_EVERY: Duration = Duration::from_millis(20);

/// How long clients may take to end after they were told to.
const ENDING: Duration = Duration::from_secs(10);

/// What each client does once it is connected.
#[derive(Clone)]
enum Work {
    Publish(publish::Load),
    Subscribe { topic: String, qos: QoS },
    Connect,
}

/// What all clients share.
struct Bundle {
    server: Server,
    work: Work,
    prefix: String,
    username: String,
    clients: u32,
    connect_rate: u32,
    threads: u32,
    /// Tells runs apart in what subscribers receive.
    run: u32,
}

/// Runs one of the three.
pub(crate) fn run(
    command: Bench,
    directory: Option<PathBuf>,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    let (crowd, server, work, received_max) = match command {
        Bench::Pub(arguments) => {
            let server = read_server(&arguments.server, directory.as_ref())?;
            let load = publish::Load::new(&arguments);
            (arguments.crowd, server, Work::Publish(load), None)
        }
        Bench::Sub(arguments) => {
            let server = read_server(&arguments.server, directory.as_ref())?;
            let work = Work::Subscribe { topic: arguments.topic.clone(), qos: qos(arguments.qos) };
            (arguments.crowd, server, work, arguments.count)
        }
        Bench::Conn(arguments) => {
            let server = read_server(&arguments.server, directory.as_ref())?;
            (arguments.crowd, server, Work::Connect, None)
        }
    };
    let bundle = Arc::new(bundle(&crowd, server, work)?);
    let watched = Watched { duration: crowd.duration, received_max, as_json };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start: {error}")))?
        .block_on(watched.drive(&bundle))
}

fn bundle(crowd: &Crowd, server: Server, work: Work) -> Result<Bundle, Failure> {
    let run =
        getrandom::u32().map_err(|error| Failure::start(format!("no random numbers: {error}")))?;
    let prefix = crowd.id_prefix.clone().unwrap_or_else(|| format!("bench-{run:08x}-"));
    check_text("-i", &prefix)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = crowd.threads.map_or(u32::try_from(cores).unwrap_or(1), u32::from);
    Ok(Bundle {
        username: server.connect.username.clone().unwrap_or_default(),
        server,
        work,
        prefix,
        clients: crowd.clients,
        connect_rate: crowd.connect_rate,
        threads: threads.min(crowd.clients),
        run,
    })
}

/// What ends a run and how it is told.
struct Watched {
    duration: Option<u64>,
    received_max: Option<u64>,
    as_json: bool,
}

impl Watched {
    async fn drive(&self, bundle: &Arc<Bundle>) -> Result<ExitCode, Failure> {
        let mut interrupts = Interrupts::new()?;
        let (stop, stopped) = watch::channel(false);
        let (done, mut all_done) = tokio::sync::mpsc::channel::<()>(1);
        let start = Instant::now();
        let counters: Vec<Arc<Counters>> = (0..bundle.threads).map(|_| Arc::default()).collect();
        let mut threads = Vec::new();
        for (number, counters) in (0..bundle.threads).zip(&counters) {
            let (bundle, counters) = (Arc::clone(bundle), Arc::clone(counters));
            let (stopped, done) = (stopped.clone(), done.clone());
            let thread = std::thread::Builder::new()
                .name(format!("bench-{number}"))
                .spawn(move || {
                    let result = thread(number, &bundle, &counters, &stopped, start);
                    drop(done);
                    result
                })
                .map_err(|error| Failure::start(format!("can't start threads: {error}")))?;
            threads.push(thread);
        }
        drop(done);
        let mut ticks = interval_at(start + Duration::from_secs(1), Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.duration.map(|seconds| start + Duration::from_secs(seconds));
        let mut last = (start, Total::default());
        loop {
            let over = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = interrupts.next() => break,
                () = over => break,
                _ = all_done.recv() => break,
                _ = ticks.tick() => {
                    let now = (Instant::now(), Total::of(&counters));
                    if !self.as_json {
                        let line = report::second(bundle, start, &last, &now);
                        say(line)?;
                    }
                    last = now;
                }
                () = self.enough(&counters) => break,
            }
        }
        let took = start.elapsed();
        // Nobody left to be told is as good.
        let _ = stop.send(true);
        if tokio::time::timeout(ENDING, all_done.recv()).await.is_err() {
            note("some clients did not end in time; their connections were cut");
        }
        let total = Total::of(&counters);
        if self.as_json {
            json(&report::summary_json(bundle, took, &total))?;
        } else {
            say(report::summary(bundle, took, &total))?;
        }
        report::errors(&counters);
        for thread in threads.into_iter().filter(std::thread::JoinHandle::is_finished) {
            if let Ok(Err(failure)) = thread.join() {
                return Err(failure);
            }
        }
        Ok(if total.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Watched {
    /// Waits until so many messages were received as are to be.
    async fn enough(&self, counters: &[Arc<Counters>]) {
        let Some(most) = self.received_max else { return std::future::pending().await };
        while Counters::received_of(counters) < most {
            sleep(COUNT_EVERY).await;
        }
    }
}

/// The clients of one thread, to their end.
fn thread(
    number: u32,
    bundle: &Arc<Bundle>,
    counters: &Arc<Counters>,
    stopped: &watch::Receiver<bool>,
    start: Instant,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start a thread: {error}")))?;
    runtime.block_on(async {
        let mut clients = JoinSet::new();
        for client in (number..bundle.clients).step_by(bundle.threads as usize) {
            let (bundle, counters) = (Arc::clone(bundle), Arc::clone(counters));
            let mut stopped = stopped.clone();
            let turn = Duration::from_secs_f64(f64::from(client) / f64::from(bundle.connect_rate));
            clients.spawn(async move {
                tokio::select! {
                    biased;
                    _ = stopped.changed() => return,
                    () = sleep_until(start + turn) => {}
                }
                if let Err(error) = one(client, &bundle, &counters, stopped).await {
                    counters.failed(&error);
                }
            });
        }
        while clients.join_next().await.is_some() {}
    });
    Ok(())
}

/// One client's life.
async fn one(
    number: u32,
    bundle: &Bundle,
    counters: &Counters,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), ClientError> {
    let Server { target, connect, patience, .. } = &bundle.server;
    let mut connect = connect.clone();
    connect.client_id = format!("{}{number}", bundle.prefix);
    let begun = Instant::now();
    let mut client = tokio::select! {
        biased;
        _ = stopped.changed() => return Ok(()),
        client = Client::connect(target, &connect, *patience, Default::default(), None) => client?,
    };
    let _here = counters.connected(begun.elapsed(), matches!(bundle.work, Work::Connect));
    let topic = |pattern: &str| {
        pattern
            .replace("%i", &number.to_string())
            .replace("%c", &connect.client_id)
            .replace("%u", &bundle.username)
    };
    match &bundle.work {
        Work::Publish(load) => {
            let topic = topic(load.topic());
            publish::run(load, number, bundle, topic, &mut client, counters, stopped).await?;
        }
        Work::Subscribe { topic: pattern, qos } => {
            subscribe::run(&topic(pattern), *qos, &mut client, counters, stopped).await?;
        }
        Work::Connect => loop {
            tokio::select! {
                biased;
                _ = stopped.changed() => break,
                event = client.event() => drop(event?),
            }
        },
    }
    client.disconnect(&Default::default()).await;
    Ok(())
}
