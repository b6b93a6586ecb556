//! Every client of other people with every other one: what one publishes the other gets as it was
//! sent, in order, at every QoS, on 3.1.1 and 5, over each transport that the clients have.
//! What must not live here: what one client alone sees of the broker (`real_clients`).

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use crate::real_clients::{installed, mosquitto, python};
use crate::support::broker::is_foreign;
use crate::support::client::DEADLINE;
use crate::support::{Authority, Broker};

mod rumqtt;

/// What each client is started with.
#[derive(Clone)]
struct Round {
    tcp: SocketAddr,
    web_socket: SocketAddr,
    secure_web_socket: SocketAddr,
    /// The certificate that signs the broker's, in a file.
    authority: String,
    version: &'static str,
    prefix: String,
}

impl Round {
    fn filter(&self) -> String {
        format!("{}/#", self.prefix)
    }

    fn client_id(&self, name: &str) -> String {
        format!("{}-{}-{name}", self.prefix, self.version)
    }
}

/// Asks a client to publish to a topic at a QoS; `published` comes when that is acknowledged.
type Publisher = Box<dyn FnMut(&str, u8, &[u8])>;

/// A client under test: subscribed to all of its round, and publishing what it is asked to.
struct Peer {
    name: &'static str,
    /// `ready`, `published` and a line for each message.
    lines: Receiver<String>,
    /// Messages that came while something else was awaited.
    messages: Vec<String>,
    publish: Publisher,
    child: Option<Child>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Peer {
    /// Reads until that line, or until so many messages have come.
    fn read_until(&mut self, line: &str, messages: usize) -> Result<(), String> {
        let deadline = Instant::now() + DEADLINE;
        while self.messages.len() < messages {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(said) if said == line => return Ok(()),
                Ok(said) if said.starts_with("message ") => self.messages.push(said),
                Ok(_) => {} // what mosquitto_sub tells beside
                Err(error) => return Err(format!("no `{line}` from {}: {error}", self.name)),
            }
        }
        Ok(())
    }
}

/// A line that says what came.
fn message_line(topic: &str, qos: u8, retain: bool, payload: &[u8]) -> String {
    format!("message {topic} {qos} {} {}", u8::from(retain), hex(payload))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn forward(stdout: impl Read + Send + 'static, sender: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
}

/// `client.py` or `client.js`.
fn driven(name: &'static str, command: &mut Command) -> Peer {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = channel();
    forward(child.stdout.take().unwrap(), sender);
    let mut input = child.stdin.take().unwrap();
    let publish = move |topic: &str, qos: u8, payload: &[u8]| {
        // If it has ended, it will be missed where its answer is awaited.
        let _ = writeln!(input, "publish {topic} {qos} {}", hex(payload));
    };
    Peer { name, lines, messages: Vec::new(), publish: Box::new(publish), child: Some(child) }
}

/// `kind` is the name of the package.
fn of_python(name: &'static str, kind: &str, transport: &str, round: &Round) -> Peer {
    let address = if transport == "ws" { round.web_socket } else { round.tcp };
    let mut command = Command::new(python());
    command.args(["-c", include_str!("interop/client.py"), kind, &round.client_id(name)]);
    command.args([transport, &address.port().to_string(), round.version, &round.filter()]);
    driven(name, &mut command)
}

fn node() -> Command {
    let mut command = Command::new("node");
    if let Some(modules) = std::env::var_os("WASMQTT_E2E_NODE_MODULES") {
        command.env("NODE_PATH", modules);
    }
    command.arg("-e");
    command
}

fn of_node(name: &'static str, url: &str, round: &Round) -> Peer {
    let mut command = node();
    command.args([include_str!("interop/client.js"), &round.client_id(name), url]);
    command.args([round.version, &round.filter(), &round.authority]);
    driven(name, &mut command)
}

/// mosquitto_sub, and a mosquitto_pub for each message.
fn of_mosquitto(name: &'static str, round: &Round) -> Peer {
    let version = if round.version == "5" { "mqttv5" } else { "mqttv311" };
    let port = round.tcp.port().to_string();
    let options = ["-h", "127.0.0.1", "-p", &port, "-V", version];
    let mut child = Command::new("stdbuf") // line by line, also into a pipe
        .args(["-oL", "mosquitto_sub"])
        .args(options)
        .args(["-i", &round.client_id(name), "-q", "2", "-t", &round.filter(), "-d"])
        .args(["-F", "message %t %q %r %x"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = channel();
    let (raw_sender, raw) = channel();
    forward(child.stdout.take().unwrap(), raw_sender);
    let said = sender.clone();
    thread::spawn(move || {
        for line in raw {
            let line = if line.starts_with("Subscribed") { "ready".to_owned() } else { line };
            if said.send(line).is_err() {
                return;
            }
        }
    });
    let options = options.map(str::to_owned);
    let publish = move |topic: &str, qos: u8, payload: &[u8]| {
        let from = if payload.is_empty() { "-n" } else { "-s" };
        let mut child = Command::new("mosquitto_pub")
            .args(&options)
            .args(["-q", &qos.to_string(), "-t", topic, from])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(payload).unwrap();
        if child.wait().unwrap().success() {
            let _ = sender.send("published".to_owned());
        }
    };
    Peer { name, lines, messages: Vec::new(), publish: Box::new(publish), child: Some(child) }
}

/// The clients that are installed here.
fn peers(round: &Round) -> Vec<Peer> {
    let mut peers = vec![rumqtt::peer("rumqttc", round)];
    if mosquitto() {
        peers.push(of_mosquitto("mosquitto", round));
    }
    for package in ["paho.mqtt.client", "aiomqtt", "gmqtt"] {
        let import = format!("import {package}");
        if !installed(package, Command::new(python()).args(["-c", &import])) {
            continue;
        }
        match package {
            "aiomqtt" => peers.push(of_python("aiomqtt", "aiomqtt", "tcp", round)),
            "gmqtt" => peers.push(of_python("gmqtt", "gmqtt", "tcp", round)),
            _ => {
                peers.push(of_python("paho", "paho", "tcp", round));
                peers.push(of_python("paho/ws", "paho", "ws", round));
            }
        }
    }
    if installed("MQTT.js", node().arg("require('mqtt')")) {
        peers.push(of_node("MQTT.js", &format!("mqtt://{}", round.tcp), round));
        peers.push(of_node("MQTT.js/ws", &format!("ws://{}/mqtt", round.web_socket), round));
        let secure = format!("wss://localhost:{}/mqtt", round.secure_web_socket.port());
        peers.push(of_node("MQTT.js/wss", &secure, round));
    }
    peers
}

/// What each client publishes at each QoS, in this order.
fn payloads(name: &str) -> [Vec<u8>; 4] {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let long = every_byte.iter().copied().cycle().take(20_000).collect();
    [format!("from {name}: grüße").into_bytes(), Vec::new(), every_byte, long]
}

fn topic(round: &Round, publisher: &str, qos: u8) -> String {
    format!("{}/{qos}/{publisher}", round.prefix)
}

/// What a subscriber should say of a publisher's messages at a QoS.
fn expected(round: &Round, publisher: &str, qos: u8) -> Vec<String> {
    let topic = topic(round, publisher, qos);
    payloads(publisher).iter().map(|payload| message_line(&topic, qos, false, payload)).collect()
}

/// What is wrong with what a subscriber got of a publisher; empty: nothing.
fn compare(round: &Round, publisher: &str, subscriber: &Peer) -> String {
    let mut wrong = String::new();
    for qos in 0..3 {
        let mark = format!("message {} ", topic(round, publisher, qos));
        let came: Vec<&String> =
            subscriber.messages.iter().filter(|line| line.starts_with(&mark)).collect();
        let expected = expected(round, publisher, qos);
        if came != expected.iter().collect::<Vec<_>>() {
            let same = came.iter().filter(|line| expected.contains(line)).count();
            let _ = write!(wrong, " qos{qos}:{same}of{}came{}", expected.len(), came.len());
        }
    }
    wrong
}

/// Publishes by each client and shows who got what. Returns how many pairs failed.
fn play(round: &Round) -> usize {
    let mut peers = peers(round);
    for peer in &mut peers {
        peer.read_until("ready", usize::MAX).unwrap();
    }
    let mut told = String::new();
    for publisher in &mut peers {
        for qos in 0..3 {
            for payload in payloads(publisher.name) {
                (publisher.publish)(&topic(round, publisher.name, qos), qos, &payload);
                if let Err(error) = publisher.read_until("published", usize::MAX) {
                    let _ = writeln!(told, "{error} at QoS {qos}");
                }
            }
        }
    }
    let all = peers.len() * 3 * payloads("").len();
    for subscriber in &mut peers {
        if let Err(error) = subscriber.read_until("all messages", all) {
            let _ = writeln!(told, "{error}");
        }
    }
    let mut failed = 0;
    let names =
        peers.iter().fold(String::new(), |text, peer| text + &format!(" {:>11}", peer.name));
    let _ = writeln!(told, "MQTT {}: publisher \\ subscriber\n{:11}{names}", round.version, "");
    for publisher in &peers {
        let _ = write!(told, "{:11}", publisher.name);
        for subscriber in &peers {
            let wrong = compare(round, publisher.name, subscriber);
            failed += usize::from(!wrong.is_empty());
            let shown = if wrong.is_empty() { "passed" } else { wrong.trim() };
            let _ = write!(told, " {shown:>11}");
        }
        told.push('\n');
    }
    // Not captured: the table is what a log should show.
    std::io::stderr().write_all(told.as_bytes()).unwrap();
    failed
}

#[test]
fn every_client_understands_every_other_at_every_qos_and_version() {
    if is_foreign() {
        return;
    }
    let authority = Authority::new("root");
    authority.issue("server");
    let tls = authority.tls("server", "");
    let plain = "listeners.ws={ bind = \"127.0.0.1:0\", transport = \"ws\" }";
    let secure =
        format!("listeners.wss={{ bind = \"127.0.0.1:0\", transport = \"ws\", tls = {tls} }}");
    let broker = Broker::dev_with(&["--workers", "2", "--set", plain, "--set", &secure]);
    for version in ["3.1.1", "5"] {
        let round = Round {
            tcp: broker.address,
            web_socket: broker.address_of("ws"),
            secure_web_socket: broker.address_of("wss"),
            authority: authority.named("ca.crt"),
            version,
            prefix: format!("interop{}", std::process::id()),
        };
        assert_eq!(play(&round), 0, "pairs of clients that failed");
    }
}
