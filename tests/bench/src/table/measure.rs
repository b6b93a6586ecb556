//! One run: a fresh broker, the load generator as a process of its own, its report read.
//! What must not live here: medians and targets.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::brokers::{Contender, Running, TOPIC_PREFIX, Tools};
use super::patterns::Pattern;

/// What a run showed; what a scenario does not measure is `None`.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Figures {
    pub(crate) cpu_per_million: Option<f64>,
    pub(crate) deliveries_per_second: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    pub(crate) p50_before_us: Option<f64>,
    pub(crate) p99_before_us: Option<f64>,
    pub(crate) syscalls_per_message: Option<f64>,
    pub(crate) bytes_per_connection: Option<f64>,
    pub(crate) cpu_us_per_connect: Option<f64>,
    pub(crate) peak_mib: Option<f64>,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) out_of_order: u64,
    /// Connections that died, packets nobody expects, refused connects.
    pub(crate) errors: u64,
}

fn loadgen(running: &Running, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--loadgen", "--port", &running.port.to_string()]);
    command.args(["--server-pid", &running.pid().to_string(), "--topic-prefix", TOPIC_PREFIX]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

fn finished(child: Child) -> Result<Value> {
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(text.trim()).with_context(|| format!("{text:?}"))?;
    if let Some(error) = report["error"].as_str() {
        bail!("load generator: {error}");
    }
    Ok(report)
}

pub(crate) fn measure(
    tools: &Tools,
    pattern: &Pattern,
    contender: &Contender,
    (seconds, publishers): (f64, Option<usize>),
    counting: bool,
) -> Result<Figures> {
    let running = tools.start(contender)?;
    let tracer = if counting { Some(Tracer::attach(&running)?) } else { None };
    let length = seconds.to_string();
    let publishers = publishers.filter(|_| pattern.takes_publishers).map(|count| count.to_string());
    let mut arguments: Vec<&str> = pattern.load.split(' ').collect();
    arguments.extend_from_slice(contender.login());
    // A slow broker gets the time to deliver what is under way: late is not lost.
    arguments.extend(["--seconds", &length, "--drain", "15"]);
    if let Some(count) = &publishers {
        arguments.extend(["--pubs", count]); // the last one counts
    }
    let churn = if pattern.churn_per_second > 0 {
        // Longer than the warm-up and the measured seconds; ended below.
        let (rate, longer) = (pattern.churn_per_second.to_string(), (seconds + 5.0).to_string());
        let churn = ["--scenario", "churn", "--rate", &rate, "--seconds", &longer];
        Some(loadgen(&running, &churn)?.spawn()?)
    } else {
        None
    };
    let report = finished(loadgen(&running, &arguments)?.spawn()?);
    if let Some(churn) = churn {
        let churned = finished(churn)?;
        eprintln!("    beside {} SUBSCRIBE and UNSUBSCRIBE a second", churned["packets_per_s"]);
    }
    let report = report.with_context(|| format!("{} on {}", pattern.name, contender.name()))?;
    let mut figures = figures(&report);
    if let Some(tracer) = tracer {
        let messages = report["total_received"].as_f64().unwrap_or(0.0);
        figures.syscalls_per_message = Some(tracer.finish()? as f64 / messages.max(1.0));
    }
    Ok(figures)
}

fn figures(report: &Value) -> Figures {
    let number = |name: &str| report[name].as_f64();
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    Figures {
        cpu_per_million: number("server_cpu_s_per_million_deliveries"),
        deliveries_per_second: number("recv_per_s"),
        p50_us: report["latency_us"]["p50"].as_f64(),
        p99_us: report["latency_us"]["p99"].as_f64(),
        p50_before_us: report["latency_us_before"]["p50"].as_f64(),
        p99_before_us: report["latency_us_before"]["p99"].as_f64(),
        syscalls_per_message: None,
        bytes_per_connection: number("rss_bytes_per_connection"),
        cpu_us_per_connect: number("server_cpu_us_per_connect"),
        peak_mib: number("server_rss_peak_kb").map(|kb| kb / 1024.0),
        lost: count("lost"),
        duplicates: count("duplicates"),
        out_of_order: count("out_of_order"),
        errors: count("bad") + count("dead_conns") + count("errors") + count("unacked"),
    }
}

/// `strace -f -c` on a broker.
struct Tracer {
    child: Child,
    folder: tempfile::TempDir,
}

impl Tracer {
    fn attach(running: &Running) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let child = Command::new("strace")
            .args(["-f", "-c", "-o"])
            .arg(folder.path().join("calls"))
            .args(["-p", &running.pid().to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("strace")?;
        // It says nothing when it is attached, but the process does.
        let status = format!("/proc/{}/status", running.pid());
        for _ in 0..500 {
            let text = std::fs::read_to_string(&status)?;
            if text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
                return Ok(Self { child, folder });
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        bail!("strace does not attach");
    }

    /// The number of all system calls since.
    fn finish(mut self) -> Result<u64> {
        // SAFETY: sends a signal to a child of ours that was not waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        self.child.wait()?;
        calls(&self.folder.path().join("calls"))
    }
}

/// The sum of the fourth column of `strace -c`, without its last line.
fn calls(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let calls = rows
        .filter(|row| row.len() >= 5 && row.last() != Some(&"total"))
        .filter_map(|row| row[3].parse::<u64>().ok());
    Ok(calls.sum())
}
