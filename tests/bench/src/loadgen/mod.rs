//! The load generator: epoll and MQTT bytes, so that it costs less than what it measures.
//! What must not live here: which brokers are compared, and how often.

mod args;
mod churn;
mod config;
mod conn;
mod connects;
mod hist;
mod idle;
mod payload;
mod pressure;
mod receive;
pub(crate) mod system;
mod throughput;
mod wire;
mod witness;
mod worker;

use args::Args;
use config::Cfg;

/// Runs one scenario and prints its report: one JSON object on standard output.
pub fn main(arguments: impl Iterator<Item = String>) {
    let a = Args::parse(arguments);
    system::prepare_process();
    let cfg = Cfg::new(&a);
    let label = a.s("label", "");
    let report = match cfg.scenario.as_str() {
        "pair" | "fanout" | "fanin" => throughput::pubsub(&cfg, &label),
        "connect" => connects::conn_rate(&cfg, &label, a.n("concurrency", 50)),
        "idle" => idle::idle(&cfg, &label),
        "churn" => churn::churn(&cfg, &label),
        "slow-reader" => pressure::slow_reader(&cfg, &label),
        "retained" => pressure::retained(&cfg, &label),
        unknown => {
            eprintln!("unknown scenario {unknown}\n{}", args::HELP);
            std::process::exit(2)
        }
    };
    match report {
        Ok(json) => println!("{json}"),
        Err(error) => {
            let error = error.to_string().replace('"', "'");
            println!(
                "{{\"label\":\"{label}\",\"scenario\":\"{}\",\"error\":\"{error}\"}}",
                cfg.scenario
            );
            std::process::exit(1)
        }
    }
}
