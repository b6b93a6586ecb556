//! The brokers that are compared: how each is prepared, started and stopped.
//! What must not live here: load and figures.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Users of the created instance: `u0` to `u99`.
pub(crate) const USERS: usize = 100;
/// Their password.
pub(crate) const PASSWORD: &str = "bench-password";
/// Rules of the created instance; the last one allows what the load does.
const RULES: usize = 100;
/// The first level of all topics.
pub(crate) const TOPIC_PREFIX: &str = "bench";

const START: Duration = Duration::from_secs(30);

/// One side of a comparison.
#[derive(Clone, Debug)]
pub(crate) enum Contender {
    /// `wasmqtt run --dev --workers N`; without a number as many as there are cores.
    Dev(Option<u16>),
    /// `wasmqtt run DIR` with those settings: passwords, 100 rules.
    Created { name: &'static str, settings: &'static [&'static str] },
    /// Debian's mosquitto.
    Mosquitto,
}

impl Contender {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Dev(None) => "dev".to_owned(),
            Self::Dev(Some(workers)) => {
                format!("dev, {workers} worker{}", if *workers == 1 { "" } else { "s" })
            }
            Self::Created { name, .. } => (*name).to_owned(),
            Self::Mosquitto => "mosquitto".to_owned(),
        }
    }

    /// What the load has to say at CONNECT.
    pub(crate) fn login(&self) -> &'static [&'static str] {
        match self {
            Self::Created { .. } => &["--username", "u", "--user-pattern", "--password", PASSWORD],
            Self::Dev(_) | Self::Mosquitto => &[],
        }
    }
}

/// What is needed to start them.
pub(crate) struct Tools {
    broker: PathBuf,
    mosquitto: Option<PathBuf>,
    folder: tempfile::TempDir,
}

/// A broker that runs until this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) port: u16,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn found(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Tools {
    pub(crate) fn new(broker: PathBuf, mosquitto: Option<PathBuf>) -> Result<Self> {
        Ok(Self {
            broker,
            mosquitto: mosquitto.or_else(|| found("mosquitto")),
            folder: tempfile::tempdir()?,
        })
    }

    pub(crate) fn has_strace(&self) -> bool {
        let there = found("strace").is_some();
        if !there {
            eprintln!("strace is not installed: system calls are not counted");
        }
        there
    }

    /// A fresh process, so that no run profits from or pays for another.
    pub(crate) fn start(&self, contender: &Contender) -> Result<Running> {
        match contender {
            Contender::Mosquitto => self.start_mosquitto(),
            Contender::Dev(workers) => {
                let mut command = Command::new(&self.broker);
                command.args(["run", "--dev", "--port", "0"]);
                if let Some(workers) = workers {
                    command.args(["--workers", &workers.to_string()]);
                }
                self.start_ours(command)
            }
            Contender::Created { settings, .. } => {
                let directory = self.instance()?;
                let mut command = Command::new(&self.broker);
                command.arg("run").arg(directory);
                command.args(["--set", "listeners.mqtt.bind=127.0.0.1:0"]);
                for setting in *settings {
                    command.args(["--set", setting]);
                }
                self.start_ours(command)
            }
        }
    }

    fn start_ours(&self, mut command: Command) -> Result<Running> {
        let log = self.folder.path().join("broker.log");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        command.env("WASMQTT_LOG", "warn").env_remove("RUST_LOG"); // Mosquitto's log is off too
        let mut child = command.spawn().with_context(|| self.broker.display().to_string())?;
        let stdout = child.stdout.take().context("stdout")?;
        let mut running = Running { child, port: 0 };
        let mut lines = BufReader::new(stdout).lines();
        for line in &mut lines {
            let line = line?;
            if let Some(rest) = line.strip_prefix("listening on mqtt://") {
                let address = rest.split_whitespace().next().unwrap_or(rest);
                running.port = address.rsplit(':').next().unwrap_or("").parse().context(line)?;
            } else if line == "ready" {
                // Whatever it prints later must not fill the pipe.
                std::thread::spawn(move || for _ in lines.map_while(Result::ok) {});
                return Ok(running);
            }
        }
        bail!("the broker did not start:\n{}", fs::read_to_string(log)?)
    }

    fn start_mosquitto(&self) -> Result<Running> {
        let binary = self.mosquitto.as_ref().context("mosquitto is not installed")?;
        let port = free_port()?;
        let config = self.folder.path().join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             max_inflight_messages 100\nset_tcp_nodelay true\nlog_type none\n"
        );
        fs::write(&config, text)?;
        let child = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| binary.display().to_string())?;
        let running = Running { child, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > START {
                bail!("mosquitto did not start");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    /// The created instance, made at its first use.
    fn instance(&self) -> Result<PathBuf> {
        let directory = self.folder.path().join("instance");
        if directory.exists() {
            return Ok(directory);
        }
        eprintln!("making an instance with {USERS} users and {RULES} rules");
        self.cli(&["create", &directory.display().to_string()], "")?;
        for number in 0..USERS {
            let name = format!("u{number}");
            self.on(&directory, &["user", "add", &name, "--password-stdin"], PASSWORD)?;
        }
        for number in 1..RULES {
            let pattern = format!("site/{number}/+/state/#");
            let effect = if number % 10 == 0 { "deny" } else { "allow" };
            let who = match number % 4 {
                0 => "all".to_owned(),
                1 => format!("role:r{}", number % 5),
                _ => format!("user:u{}", number % USERS),
            };
            self.on(&directory, &["acl", effect, "all", &pattern, "--to", &who], "")?;
        }
        self.on(
            &directory,
            &["acl", "allow", "all", &format!("{TOPIC_PREFIX}/#"), "--to", "all"],
            "",
        )?;
        Ok(directory)
    }

    fn on(&self, directory: &Path, arguments: &[&str], stdin: &str) -> Result<()> {
        let directory = directory.display().to_string();
        self.cli(&[&["-C", directory.as_str()], arguments].concat(), stdin)
    }

    fn cli(&self, arguments: &[&str], stdin: &str) -> Result<()> {
        let mut child = Command::new(&self.broker)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        // A command that does not read its input closes it.
        let _ = child.stdin.take().context("stdin")?.write_all(format!("{stdin}\n").as_bytes());
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}
