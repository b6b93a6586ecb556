//! The broker under test: a child process, or a foreign broker that `WASMQTT_E2E_BROKER` names.
//! What must not live here: what a chapter expects of it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::stream::Endpoint;
use super::transport::Carrier;

/// How long a broker may take to start or to stop.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running broker. Dropping it kills the process, and shows its log if the test failed.
pub(crate) struct Broker {
    /// Of a listener with MQTT on TCP itself, the last by name; where there is none, of the last.
    pub(crate) address: SocketAddr,
    /// Where each listener listens, by name.
    urls: BTreeMap<String, String>,
    carrier: Option<Carrier>,
    process: Option<Process>,
}

struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
    /// Lines of standard output; disconnected when the broker has closed it.
    lines: Mutex<Receiver<String>>,
    readers: Vec<thread::JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

/// The binary of this build, or the one that `WASMQTT_E2E_BINARY` names.
pub(crate) fn binary() -> String {
    let named = std::env::var("WASMQTT_E2E_BINARY");
    named.unwrap_or_else(|_| env!("CARGO_BIN_EXE_wasmqtt").to_owned())
}

fn foreign() -> Option<SocketAddr> {
    let name = std::env::var("WASMQTT_E2E_BROKER").ok()?;
    Some(name.to_socket_addrs().expect("WASMQTT_E2E_BROKER is host:port").next().unwrap())
}

/// The suite runs against somebody else's broker: only what any broker promises can be tested.
pub(crate) fn is_foreign() -> bool {
    foreign().is_some()
}

impl Broker {
    /// A throw-away broker with two workers, or the foreign one.
    pub(crate) fn dev() -> Self {
        match foreign() {
            Some(address) => Self { address, urls: BTreeMap::new(), carrier: None, process: None },
            None => Self::dev_with(&["--workers", "2"]),
        }
    }

    /// A throw-away broker of our own with those arguments more.
    pub(crate) fn dev_with(arguments: &[&str]) -> Self {
        let mut all = vec!["run", "--dev", "--port", "0"];
        all.extend_from_slice(arguments);
        Self::start(&all)
    }

    /// Starts the binary and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let carrier = Carrier::chosen();
        let carried = carrier.as_ref().map(Carrier::setting);
        let mut arguments = arguments.to_vec();
        arguments.extend(carried.as_deref());
        let mut child = command(&arguments, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = channel();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers = vec![
            collect(stdout, Arc::clone(&log), move |line| {
                let _ = sender.send(line);
            }),
            collect(stderr, Arc::clone(&log), |_| {}),
        ];
        let mut process =
            Process { child, log, lines: Mutex::new(lines), readers, _directory: directory };
        let urls = process.await_ready(&arguments);
        let addresses = |scheme| {
            let named = urls.values().filter_map(move |url: &String| url.strip_prefix(scheme));
            named.filter_map(|address| address.parse().ok()).next_back()
        };
        let address = addresses("mqtt://").or_else(|| addresses("mqtts://"));
        let address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        Self { address, urls, carrier, process: Some(process) }
    }

    /// Where clients go that are not told otherwise.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let carried = self.carrier.as_ref().map(|carrier| carrier.endpoint(self));
        carried.unwrap_or(Endpoint::Tcp(self.address))
    }

    /// What follows `mqtts://` and the like, of the listener of that name.
    #[track_caller]
    pub(crate) fn listens_at(&self, listener: &str) -> &str {
        let url = self.urls.get(listener).unwrap_or_else(|| panic!("no listener `{listener}`"));
        url.split_once("://").unwrap().1
    }

    /// The address of the listener of that name.
    #[track_caller]
    pub(crate) fn address_of(&self, listener: &str) -> SocketAddr {
        self.listens_at(listener).split('/').next().unwrap().parse().unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process().child), signal).unwrap();
    }

    /// Waits until a line of its log holds all of `words`, and returns it.
    #[track_caller]
    pub(crate) fn logged(&self, words: &[&str]) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let log = self.log();
            let mut lines = log.lines();
            if let Some(line) = lines.find(|line| words.iter().all(|word| line.contains(word))) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line with {words:?} in:\n{log}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn process(&self) -> &Process {
        self.process.as_ref().expect("a broker of our own")
    }

    /// What it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.process
            .as_ref()
            .map_or_else(String::new, |process| process.log.lock().unwrap().clone())
    }

    /// Resident memory in bytes; `None` of a foreign broker.
    pub(crate) fn resident_bytes(&self) -> Option<u64> {
        let process = self.process.as_ref()?;
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Some(kilobytes * 1024)
    }

    /// Asks for a graceful shutdown.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has stopped by itself.
    #[track_caller]
    pub(crate) fn stopped(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("a broker of our own");
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match process.next_line(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return process.child.wait().unwrap(),
                Err(RecvTimeoutError::Timeout) => panic!("still running after {DEADLINE:?}"),
            }
        }
    }
}

impl Process {
    fn next_line(&self, wait: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.lock().unwrap().recv_timeout(wait)
    }

    #[track_caller]
    fn await_ready(&mut self, arguments: &[&str]) -> BTreeMap<String, String> {
        let deadline = Instant::now() + DEADLINE;
        let mut urls = BTreeMap::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.next_line(left) else {
                let _ = self.child.kill();
                let log = self.log.lock().unwrap().clone();
                panic!("{arguments:?} did not get ready:\n{log}");
            };
            if line == "ready" {
                assert!(!urls.is_empty(), "a line `listening on …` before `ready`");
                return urls;
            }
            if let Some(rest) = line.strip_prefix("listening on ") {
                let (url, name) = rest.split_once(" (listener ").expect("a listener's name");
                urls.insert(name.trim_end_matches(')').to_owned(), url.to_owned());
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(process) = self.process.as_mut() else {
            return;
        };
        let _ = process.child.kill();
        let _ = process.child.wait();
        for reader in process.readers.drain(..) {
            let _ = reader.join();
        }
        if thread::panicking() {
            eprintln!("--- log of the broker ---\n{}---", process.log.lock().unwrap());
        }
    }
}

/// The binary with those arguments, in that directory.
pub(crate) fn command(arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .current_dir(directory)
        .env("NO_COLOR", "1")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

fn collect(
    stream: impl Read + Send + 'static,
    log: Arc<Mutex<String>>,
    line_read: impl Fn(String) + Send + 'static,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
            line_read(line);
        }
    })
}
