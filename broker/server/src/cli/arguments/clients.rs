//! The options of `pub`, `sub` and `bench`, in the words of mosquitto_pub and mosquitto_sub.
//! What must not live here: what a command does with them.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

const SERVER: &str = "Server";
const CLIENT: &str = "Client";
const TLS: &str = "TLS and WebSocket";
const WILL: &str = "Will";

/// Exit codes of all three, for the end of their help.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done · 1 not connected, refused or broken off · 2 wrong usage · \
27 `sub -W` waited in vain.";

/// Where the server is and how it is spoken to.
#[derive(Debug, Args)]
pub(crate) struct ServerArguments {
    /// The server's name or address [default: localhost]
    #[arg(short = 'h', long, value_name = "HOST", help_heading = SERVER)]
    pub host: Option<String>,
    /// Its port [default: 1883; 8883 with TLS, 80 and 443 with WebSocket]
    #[arg(short, long, value_name = "PORT", help_heading = SERVER, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Server, login and topic in one word: mqtt[s]://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC], or
    /// ws[s]://…[/PATH] (where PATH is WebSocket's)
    #[arg(short = 'L', long, value_name = "URL", help_heading = SERVER, conflicts_with_all = ["host", "port", "unix"])]
    pub url: Option<String>,
    /// A Unix socket instead of host and port
    #[arg(long, value_name = "PATH", help_heading = SERVER, conflicts_with_all = ["host", "port", "bind_address"])]
    pub unix: Option<PathBuf>,
    /// The local address to connect from
    #[arg(short = 'A', long = "bind", id = "bind_address", value_name = "ADDRESS", help_heading = SERVER)]
    pub bind: Option<IpAddr>,
    /// MQTT's version; a server that does not speak it is not asked for another
    #[arg(short = 'V', long = "protocol-version", value_enum, default_value_t = ProtocolVersion::V5, hide_possible_values = true, value_name = "3.1|3.1.1|5", help_heading = SERVER)]
    pub version: ProtocolVersion,
    /// Seconds that connecting may take
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = SERVER)]
    pub connect_timeout: u64,
    /// The name to log in with
    #[arg(short, long, value_name = "USER", help_heading = CLIENT)]
    pub username: Option<String>,
    /// Its password; - asks for it. Other users of this machine can see arguments: prefer - or
    /// --password-file or the variable WASMQTT_PASSWORD
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD", allow_hyphen_values = true, help_heading = CLIENT)]
    pub password: Option<OsString>,
    /// Read the password from the first line of a file
    #[arg(long, value_name = "FILE", conflicts_with = "password", help_heading = CLIENT)]
    pub password_file: Option<PathBuf>,
    /// Seconds after which server and client notice that the other is gone; 0: never
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60, help_heading = CLIENT)]
    pub keepalive: u16,
    /// TLS, with the authorities that this system trusts
    #[arg(long, help_heading = TLS)]
    pub tls: bool,
    /// TLS, with the authorities in this file (PEM)
    #[arg(long, value_name = "FILE", help_heading = TLS)]
    pub cafile: Option<PathBuf>,
    /// TLS, with the authorities in this folder's files (PEM)
    #[arg(long, value_name = "FOLDER", help_heading = TLS)]
    pub capath: Option<PathBuf>,
    /// The client's own certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key", help_heading = TLS)]
    pub cert: Option<PathBuf>,
    /// The key of --cert (PEM)
    #[arg(long, value_name = "FILE", requires = "cert", help_heading = TLS)]
    pub key: Option<PathBuf>,
    /// Believe whoever answers: for trying things out only
    #[arg(long, help_heading = TLS)]
    pub insecure: bool,
    /// Only this version of TLS [default: both]
    #[arg(long, value_enum, value_name = "tlsv1.2|tlsv1.3", hide_possible_values = true, help_heading = TLS)]
    pub tls_version: Option<TlsVersionArgument>,
    /// Offer this protocol in TLS (ALPN)
    #[arg(long, value_name = "PROTOCOL", help_heading = TLS)]
    pub tls_alpn: Option<String>,
    /// The name that the server's certificate has to have [default: the host's]
    #[arg(long, value_name = "NAME", help_heading = TLS)]
    pub sni: Option<String>,
    /// MQTT over WebSocket
    #[arg(long, help_heading = TLS)]
    pub ws: bool,
    /// The path of WebSocket's request [default: /mqtt]
    #[arg(long, alias = "path", value_name = "PATH", requires = "ws", help_heading = TLS)]
    pub ws_path: Option<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// Keeps the directory's `-C` out of these commands, where it has another meaning or none.
    #[arg(long = "directory", id = "directory", hide = true)]
    pub directory: Option<PathBuf>,
}

/// `-V`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolVersion {
    #[value(name = "3.1", aliases = ["mqttv31", "31"])]
    V31,
    #[value(name = "3.1.1", aliases = ["mqttv311", "311"])]
    V311,
    #[value(name = "5", aliases = ["mqttv5", "5.0"])]
    V5,
}

/// `--tls-version`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsVersionArgument {
    #[value(name = "tlsv1.2", alias = "1.2")]
    V12,
    #[value(name = "tlsv1.3", alias = "1.3")]
    V13,
}

/// Who one client is.
#[derive(Debug, Args)]
pub(crate) struct SessionArguments {
    /// The client id [default: the server's choice]
    #[arg(short = 'i', long, value_name = "ID", help_heading = CLIENT)]
    pub id: Option<String>,
    /// The client id begins like this and ends with this process's number
    #[arg(short = 'I', long, value_name = "PREFIX", conflicts_with = "id", help_heading = CLIENT)]
    pub id_prefix: Option<String>,
    /// Keep the session: go on with the one that is there, and leave it (needs -i)
    #[arg(short = 'c', long, requires = "id", help_heading = CLIENT)]
    pub disable_clean_session: bool,
    /// Seconds that the server keeps the session afterwards (MQTT 5; with -c and without -x: for ever)
    #[arg(short = 'x', long, value_name = "SECONDS", requires = "id", help_heading = CLIENT)]
    pub session_expiry_interval: Option<u32>,
    /// A property of MQTT 5, as in -D publish content-type text/plain or
    /// -D connect user-property NAME VALUE; PACKET is connect, publish, will, subscribe, unsubscribe
    /// or disconnect
    #[arg(short = 'D', long = "property", num_args = 3..=4, value_names = ["PACKET", "PROPERTY", "VALUE", "VALUE"], action = ArgAction::Append, help_heading = CLIENT)]
    pub properties: Vec<String>,
    /// Say each packet on standard error
    #[arg(short = 'd', long, help_heading = CLIENT)]
    pub debug: bool,
    /// The topic of a message that the server publishes when this client gets lost
    #[arg(long, value_name = "TOPIC", help_heading = WILL)]
    pub will_topic: Option<String>,
    /// What is in it
    #[arg(long, value_name = "MESSAGE", requires = "will_topic", allow_hyphen_values = true, help_heading = WILL)]
    pub will_payload: Option<OsString>,
    /// Its QoS
    #[arg(long, value_name = "QOS", requires = "will_topic", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2), help_heading = WILL)]
    pub will_qos: u8,
    /// It becomes the topic's retained message
    #[arg(long, requires = "will_topic", help_heading = WILL)]
    pub will_retain: bool,
}

/// `pub`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("content").required(true).multiple(false))]
pub(crate) struct Publish {
    /// The topic
    #[arg(short, long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// The message
    #[arg(short, long, value_name = "MESSAGE", group = "content", allow_hyphen_values = true)]
    pub message: Option<OsString>,
    /// The message is a file
    #[arg(short, long, value_name = "FILE", group = "content")]
    pub file: Option<PathBuf>,
    /// The message is all of standard input
    #[arg(short, long, group = "content")]
    pub stdin_file: bool,
    /// Each line of standard input is a message
    #[arg(short = 'l', long, group = "content")]
    pub stdin_line: bool,
    /// An empty message; with -r it removes the retained one
    #[arg(short, long, group = "content")]
    pub null_message: bool,
    /// Quality of service: 0 at most once, 1 at least once, 2 exactly once
    #[arg(short, long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// It becomes the topic's retained message
    #[arg(short, long)]
    pub retain: bool,
    /// Publish it so many times
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "stdin_line")]
    pub repeat: u32,
    /// Seconds between them, as in 0.5
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub repeat_delay: Option<f64>,
    #[command(flatten)]
    pub session: SessionArguments,
    #[command(flatten)]
    pub server: ServerArguments,
}

/// `sub`
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// A topic filter, with + for one level and # for the rest; may be given several times
    #[arg(short, long = "topic", value_name = "FILTER")]
    pub topics: Vec<String>,
    /// Leave out messages whose topic this filter matches; may be given several times
    #[arg(short = 'T', long, value_name = "FILTER")]
    pub filter_out: Vec<String>,
    /// Unsubscribe from a filter of the session that -c goes on with; may be given several times
    #[arg(short = 'U', long, value_name = "FILTER")]
    pub unsubscribe: Vec<String>,
    /// The highest QoS to receive with
    #[arg(short, long, value_name = "QOS", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// End after so many messages
    #[arg(short = 'C', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so many seconds, with exit code 27
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<f64>,
    /// End as soon as the server has the subscriptions
    #[arg(short = 'E', long)]
    pub exit_after_subscribe: bool,
    /// Print the topic in front of the message
    #[arg(short, long)]
    pub verbose: bool,
    /// Print by a format: %t topic, %p message, %q QoS, %r retained; see below
    #[arg(short = 'F', long, value_name = "FORMAT", conflicts_with_all = ["verbose", "no_newline"])]
    pub format: Option<String>,
    /// Print no line break behind a message
    #[arg(short = 'N', long)]
    pub no_newline: bool,
    /// No messages that were retained before this subscription
    #[arg(short = 'R', long, conflicts_with = "retained_only")]
    pub no_retained: bool,
    /// Only retained messages; ends with the first that is not
    #[arg(long)]
    pub retained_only: bool,
    /// The flag of a message says whether it was published as retained (MQTT 5)
    #[arg(long)]
    pub retain_as_published: bool,
    /// No messages that this client published itself (MQTT 5)
    #[arg(long)]
    pub no_local: bool,
    #[command(flatten)]
    pub session: SessionArguments,
    #[command(flatten)]
    pub server: ServerArguments,
}

/// Seconds, also parts of them.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e9).contains(&seconds) => Ok(seconds),
        Ok(_) | Err(_) => Err("not a number of seconds from 0 to 1000000000".to_owned()),
    }
}

/// Examples below the help of `pub`.
pub(crate) const PUB_EXAMPLES: &str = "\
Examples:
  wasmqtt pub -t room/lamp -m on
  wasmqtt pub -t room/lamp -m on -q 1 -r                  kept as the topic's retained message
  wasmqtt pub -t room/lamp -n -r                          removes it
  sensors | wasmqtt pub -t room/log -l -q 1               each line is a message
  wasmqtt pub -h broker.example --tls -u alice -P - -t a -m b
  wasmqtt pub -L mqtts://alice@broker.example/room/lamp -m on
  wasmqtt pub -t ask -m 7 -D publish response-topic answers -D publish user-property unit s

MQTT 5 unless -V says otherwise. The words are those of mosquitto_pub; -h is the host, --help this page.
";

/// Examples below the help of `sub`.
pub(crate) const SUB_EXAMPLES: &str = "\
Examples:
  wasmqtt sub -t 'room/#' -v                              every message with its topic
  wasmqtt sub -t 'room/#' --json | jq .payload            one JSON object a line
  wasmqtt sub -t room/lamp -C 1 -W 5                      one message, or exit code 27 after 5 s
  wasmqtt sub -t 'room/#' -q 1 -c -i logger               nothing is lost while it is away
  wasmqtt sub -t 'room/#' -F '%I %t %l bytes: %x'

Formats: %t topic · %p message · %x %X in hexadecimal · %l its length · %q QoS · %r retained · %d duplicate
  %m packet id · %I ISO time · %U Unix time · %j %J JSON (%J: the message is JSON itself)
  %A topic alias · %C content type · %D correlation data · %E expiry · %F payload format
  %P user properties · %R response topic · %S subscription identifiers · %% a percent sign
  \\n \\t \\r \\e \\\\ as in C

A connection that is lost is made anew, with growing pauses, and said on standard error.
MQTT 5 unless -V says otherwise. The words are those of mosquitto_sub; -h is the host, --help this page.
";
