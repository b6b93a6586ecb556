//! The options of `bench`, close to those of emqtt_bench.
//! What must not live here: what a command does with them.

use clap::{Args, Subcommand};

use super::clients::{EXIT_CODES, ServerArguments};

/// `bench …`
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Clients that publish
    #[command(disable_help_flag = true, after_help = format!("{PUB}\n{EXIT_CODES}"))]
    Pub(Box<BenchPublish>),
    /// Clients that subscribe
    #[command(disable_help_flag = true, after_help = format!("{SUB}\n{EXIT_CODES}"))]
    Sub(Box<BenchSubscribe>),
    /// Clients that connect and stay
    #[command(disable_help_flag = true, after_help = format!("{CONN}\n{EXIT_CODES}"))]
    Conn(Box<BenchConnect>),
}

/// How many clients, and how long.
#[derive(Debug, Args)]
pub(crate) struct Crowd {
    /// How many clients
    #[arg(short, long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// At most so many connect in a second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connect_rate: u32,
    /// End after so many seconds
    #[arg(short, long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub duration: Option<u64>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Client ids begin like this and end with the client's number
    #[arg(short = 'i', long, value_name = "PREFIX")]
    pub id_prefix: Option<String>,
}

/// `bench pub`
#[derive(Debug, Args)]
pub(crate) struct BenchPublish {
    /// Where to; %i is the client's number, %c its id, %u the user
    #[arg(short, long, value_name = "TOPIC", default_value = "bench/%i")]
    pub topic: String,
    /// Quality of service
    #[arg(short, long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Messages become their topics' retained ones
    #[arg(short, long)]
    pub retain: bool,
    /// Bytes of a message; from 28 on it carries number and time, so that `bench sub` finds losses
    /// and delays
    #[arg(short, long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    pub size: u32,
    /// Milliseconds between two messages of a client; 0: as fast as the server takes them
    #[arg(short = 'I', long, value_name = "MS", default_value_t = 1000)]
    pub interval: u64,
    /// Messages a second of all clients together, instead of -I
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000), conflicts_with = "interval")]
    pub rate: Option<u64>,
    /// Each client ends after so many messages
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Messages of a client with QoS 1 and 2 that are on their way at most
    #[arg(short = 'F', long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub inflight: u16,
    #[command(flatten)]
    pub crowd: Crowd,
    #[command(flatten)]
    pub server: ServerArguments,
}

/// `bench sub`
#[derive(Debug, Args)]
pub(crate) struct BenchSubscribe {
    /// What to; %i is the client's number, %c its id, %u the user
    #[arg(short, long, value_name = "FILTER", default_value = "bench/%i")]
    pub topic: String,
    /// Quality of service
    #[arg(short, long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// End after so many messages of all clients together
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    #[command(flatten)]
    pub crowd: Crowd,
    #[command(flatten)]
    pub server: ServerArguments,
}

/// `bench conn`
#[derive(Debug, Args)]
pub(crate) struct BenchConnect {
    #[command(flatten)]
    pub crowd: Crowd,
    #[command(flatten)]
    pub server: ServerArguments,
}

const PUB: &str = "\
Examples:
  wasmqtt bench pub -c 100 -I 10                          100 clients, each 100 messages a second
  wasmqtt bench pub -c 4 -I 0 -q 1 -d 10                  as fast as they are acknowledged, for 10 s
  wasmqtt bench pub --rate 20000 -n 5000 -t 'load/%i'     with `wasmqtt bench sub -t 'load/#' -c 1`

Each second says what was done in it. The delay of `pub` is the time to PUBACK or PUBCOMP; with QoS 0
there is none. Ctrl-C ends it with the summary; --json prints only that.
";

const SUB: &str = "\
Examples:
  wasmqtt bench sub                                       10 clients for the 10 of `wasmqtt bench pub`
  wasmqtt bench sub -c 1 -t 'bench/#' -q 1 -n 100000

The delay is from `bench pub` writing the message to this process reading it: both have to run on one
machine, or have clocks that agree. Lost and duplicated are told by the messages' numbers.
";

const CONN: &str = "\
Examples:
  wasmqtt bench conn -c 10000 --connect-rate 2000         until Ctrl-C
  wasmqtt bench conn -c 100 -d 5 --json

The delay is that of connecting, from the first packet to CONNACK.
";
