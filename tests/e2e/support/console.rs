//! `wasmqtt pub`, `sub` and `bench` as processes: what they print, line by line, and how they end.
//! What must not live here: what is expected of them.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::broker::{Broker, command};
use super::client::DEADLINE;
use super::instance::{Ran, run};

/// The words of `-V`.
pub(crate) const VERSIONS: [&str; 3] = ["3.1", "3.1.1", "5"];

/// Words of a command, with the broker's host and port behind them.
pub(crate) fn options(broker: &Broker, words: &str) -> Vec<String> {
    let port = broker.address.port().to_string();
    let own = ["-h", "127.0.0.1", "-p", port.as_str()];
    words.split_whitespace().chain(own).map(str::to_owned).collect()
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn check(words: &[String], stdin: &str) -> Ran {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&words, Path::new("/"), stdin)
}

/// Runs a command in a directory, with that in WASMQTT_PASSWORD.
#[track_caller]
pub(crate) fn options_in(words: &str, directory: &Path, password: &str) -> Ran {
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = command(&words, directory);
    if !password.is_empty() {
        command.env("WASMQTT_PASSWORD", password);
    }
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// `wasmqtt pub …`, successfully.
#[track_caller]
pub(crate) fn publish(broker: &Broker, words: &str, stdin: &str) {
    let ran = check(&options(broker, &format!("pub {words}")), stdin);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{words}: {ran:?}");
}

/// A command that runs. Dropping it kills it.
pub(crate) struct Console {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Console {
    #[track_caller]
    pub(crate) fn start(words: &[String]) -> Self {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut child = command(&words, Path::new("/"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = lines(child.stdout.take().unwrap());
        let stderr = lines(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// `sub`, once it has its subscription.
    #[track_caller]
    pub(crate) fn subscribed(words: &[String]) -> Self {
        let console = Self::start(&[words, &["-d".to_owned()]].concat());
        console.said("< SUBACK");
        console
    }

    /// The next line on standard output.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        let line = self.stdout.recv_timeout(DEADLINE);
        line.unwrap_or_else(|error| panic!("no line on standard output: {error}"))
    }

    /// All further lines on standard output.
    pub(crate) fn rest(&self) -> Vec<String> {
        let deadline = Instant::now() + DEADLINE;
        let mut all = Vec::new();
        let left = || deadline.saturating_duration_since(Instant::now());
        while let Ok(line) = self.stdout.recv_timeout(left()) {
            all.push(line);
        }
        all
    }

    /// Reads standard error until a line contains `text`.
    #[track_caller]
    pub(crate) fn said(&self, text: &str) {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.stderr.recv_timeout(DEADLINE) else {
                panic!("{text:?} was not said on standard error:\n{}", seen.join("\n"));
            };
            if line.contains(text) {
                return;
            }
            seen.push(line);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code of a command that ends by itself; nothing more was printed.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> i32 {
        assert_eq!(self.rest(), [""; 0], "lines that nobody awaited");
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
