//! The table: starts the brokers in turn, measures the patterns, prints medians and ratios.
//! What must not live here: how load is made (`loadgen`).

mod brokers;
mod measure;
mod patterns;
mod report;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use brokers::Tools;
use measure::{Figures, measure};
use patterns::{Pattern, patterns};
use report::Report;

const HELP: &str =
    "bench: compares `wasmqtt` (release build, started here) with Debian's mosquitto, in turn

  --patterns A,B   only those (default: all; --list shows them)
  --runs N         runs of each, of which the medians count, default 5
  --seconds N      measured seconds of a run, default 5
  --publishers N   of slow-reader and slow-reader-qos1, default 1000
  --quick          one run of two seconds: to see that it works, not to quote
  --broker FILE    the binary to measure; without it `cargo build --release` makes it
  --mosquitto FILE default: mosquitto from PATH or /usr/sbin
  --list           the patterns and their targets
Nothing else should run meanwhile. Exit code 1 when a target is missed or a message is lost.";

struct Options {
    patterns: Option<Vec<String>>,
    runs: usize,
    seconds: f64,
    publishers: Option<usize>,
    broker: Option<PathBuf>,
    mosquitto: Option<PathBuf>,
    list: bool,
}

/// Runs the command; `--loadgen …` makes this binary the load generator, so that one is enough.
#[must_use]
pub fn main(arguments: Vec<String>) -> ExitCode {
    if arguments.first().is_some_and(|first| first == "--loadgen") {
        crate::loadgen::main(arguments.into_iter().skip(1));
        return ExitCode::SUCCESS;
    }
    match parse(&arguments).and_then(|options| options.map_or(Ok(true), |options| run(&options))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// `None`: the help was asked for.
fn parse(arguments: &[String]) -> Result<Option<Options>> {
    let mut options = Options {
        patterns: None,
        runs: 5,
        seconds: 5.0,
        publishers: None,
        broker: None,
        mosquitto: None,
        list: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--patterns" => {
                options.patterns = Some(value()?.split(',').map(str::to_owned).collect());
            }
            "--runs" => options.runs = value()?.parse().context("--runs")?,
            "--seconds" => options.seconds = value()?.parse().context("--seconds")?,
            "--publishers" => {
                options.publishers = Some(value()?.parse().context("--publishers")?);
            }
            "--quick" => (options.runs, options.seconds) = (1, 2.0),
            "--broker" => options.broker = Some(value()?.into()),
            "--mosquitto" => options.mosquitto = Some(value()?.into()),
            "--list" => options.list = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(None);
            }
            unknown => bail!("unknown argument {unknown}\n{HELP}"),
        }
    }
    if options.runs == 0 {
        bail!("--runs must be at least 1");
    }
    Ok(Some(options))
}

/// The patterns that were asked for, in the table's order.
fn chosen(names: Option<&[String]>) -> Result<Vec<Pattern>> {
    let all = patterns();
    let Some(names) = names else { return Ok(all) };
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|p| p.name != **name)) {
        let known: Vec<&str> = all.iter().map(|pattern| pattern.name).collect();
        bail!("no pattern {unknown:?}; there are {}", known.join(", "));
    }
    Ok(all.into_iter().filter(|pattern| names.iter().any(|name| name == pattern.name)).collect())
}

fn run(options: &Options) -> Result<bool> {
    crate::loadgen::system::prepare_process();
    let patterns = chosen(options.patterns.as_deref())?;
    if options.list {
        for pattern in &patterns {
            println!("{:<16} {}", pattern.name, pattern.about);
        }
        return Ok(true);
    }
    let broker = match &options.broker {
        Some(file) => file.canonicalize().with_context(|| file.display().to_string())?,
        None => build()?,
    };
    let tools = Tools::new(broker, options.mosquitto.clone())?;
    let length = (options.seconds, options.publishers);
    let mut report = Report::new(options.runs, options.seconds);
    for pattern in &patterns {
        let mut figures: Vec<Vec<Figures>> = vec![Vec::new(); pattern.contenders.len()];
        for number in 0..options.runs {
            // In turn, so that what else the machine does falls on all of them.
            for (contender, runs) in pattern.contenders.iter().zip(&mut figures) {
                eprintln!("{} {}/{}: {}", pattern.name, number + 1, options.runs, contender.name());
                let one = measure(&tools, pattern, contender, length, false)?;
                eprintln!("    {one:?}");
                runs.push(one);
            }
        }
        if pattern.count_syscalls && tools.has_strace() {
            for (contender, runs) in pattern.contenders.iter().zip(&mut figures) {
                eprintln!("{} strace: {}", pattern.name, contender.name());
                let counted = measure(&tools, pattern, contender, length, true)?;
                for one in runs {
                    one.syscalls_per_message = counted.syscalls_per_message;
                }
            }
        }
        report.add(pattern, &figures);
    }
    report.print();
    Ok(report.is_good())
}

/// Builds the broker beside this binary.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "--package", "wasmqtt", "--bin", "wasmqtt"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .status()
        .context("cargo")?;
    if !status.success() {
        bail!("the broker does not build");
    }
    let own = std::env::current_exe()?;
    let file = own.with_file_name("wasmqtt");
    // A debug build of this command stands in another folder than the broker's release build.
    let release = own.parent().and_then(|debug| debug.parent()).map(|p| p.join("release/wasmqtt"));
    let in_release = own.parent().is_some_and(|folder| folder.ends_with("release"));
    let file = if in_release { file } else { release.unwrap_or(file) };
    file.canonicalize().with_context(|| format!("{} was not built", file.display()))
}
