//! Other people's clients: mosquitto_pub, mosquitto_sub and paho-mqtt.
//! What must not live here: what our own client can find out more exactly.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::support::broker::is_foreign;
use crate::support::client::DEADLINE;
use crate::support::{Authority, Broker, Instance};

/// Whether this client is installed. Where `CI` is set it has to be.
pub(crate) fn installed(name: &str, probe: &mut Command) -> bool {
    let there = probe.output().is_ok_and(|output| output.status.success());
    assert!(
        there || std::env::var_os("CI").is_none(),
        "{name} is not installed; .ci/run installs it"
    );
    if !there {
        eprintln!("left out: {name} is not installed (.ci/run installs it)");
    }
    there
}

pub(crate) fn mosquitto() -> bool {
    installed("mosquitto-clients", Command::new("sh").args(["-c", "command -v mosquitto_pub"]))
}

pub(crate) fn python() -> PathBuf {
    std::env::var_os("WASMQTT_E2E_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

fn paho() -> bool {
    installed("paho-mqtt", Command::new(python()).args(["-c", "import paho.mqtt.client"]))
}

/// `mosquitto_pub` or `mosquitto_sub` with options in one string.
fn command(broker: &Broker, name: &str, options: &str) -> Command {
    // Line by line, also into a pipe.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", name]);
    command.args(["-h", "127.0.0.1", "-p", &broker.address.port().to_string()]);
    command.args(options.split_whitespace());
    command
}

#[track_caller]
fn publish(broker: &Broker, options: &str) -> Output {
    command(broker, "mosquitto_pub", options).output().unwrap()
}

/// A mosquitto_sub that has its subscription, and the lines that it prints.
struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    #[track_caller]
    fn start(broker: &Broker, options: &str) -> Self {
        let subscriber = Self::spawn(broker, options);
        subscriber.line_with("Subscribed");
        subscriber
    }

    /// Does not wait: what was queued comes before the subscription is answered.
    #[track_caller]
    fn spawn(broker: &Broker, options: &str) -> Self {
        let mut child = command(broker, "mosquitto_sub", options)
            .arg("-d")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Reads until a line contains `text`.
    #[track_caller]
    fn line_with(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE);
            let line = line.unwrap_or_else(|error| panic!("no line with {text:?}: {error}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn mosquitto_subscribers_share_a_group() {
    if !mosquitto() || is_foreign() {
        return;
    }
    let broker = Broker::dev_with(&["--workers", "3"]);
    for version in ["mqttv311", "mqttv5"] {
        let options = format!("-V {version} -q 1 -t $share/g/jobs/#");
        let members = [1, 2].map(|_| Subscriber::start(&broker, &options));
        for number in 0..6 {
            let options = format!("-V {version} -q 1 -t jobs/{number} -m job-{number}");
            assert!(publish(&broker, &options).status.success());
        }
        // They take turns, so each has three.
        for (first, member) in members.iter().enumerate() {
            for number in (first..6).step_by(2) {
                member.line_with(&format!("job-{number}"));
            }
        }
    }
}

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

#[test]
fn mosquitto_pub_and_sub_over_tls_with_and_without_a_certificate() {
    if !mosquitto() {
        return;
    }
    let authority = Authority::new("root");
    authority.issue("server");
    authority.issue("device");
    let ca = authority.named("ca.crt");
    let required = authority.tls("server", &format!(", client_ca = \"{ca}\""));
    let listener = |name: &str, tls: &str| {
        format!("listeners.{name}={{ bind = \"127.0.0.1:0\", tls = {tls} }}")
    };
    let (tls, mutual) =
        (listener("tls", &authority.tls("server", "")), listener("mutual", &required));
    let broker = Broker::dev_with(&["--workers", "2", "--set", &tls, "--set", &mutual]);
    let shown =
        format!("--cert {} --key {}", authority.named("device.crt"), authority.named("device.key"));
    for (name, shown) in [("tls", ""), ("mutual", shown.as_str())] {
        let port = broker.address_of(name).port();
        let way = format!("-p {port} --cafile {ca} {shown}");
        for version in VERSIONS {
            for qos in 0..3 {
                let topic = format!("tls/{name}/{version}/{qos}");
                let subscriber =
                    Subscriber::start(&broker, &format!("{way} -V {version} -q {qos} -t {topic}"));
                let options = format!("{way} -V {version} -q {qos} -t {topic} -m message");
                let output = publish(&broker, &options);
                assert!(output.status.success(), "{output:?}");
                assert_eq!(subscriber.line_with("message"), "message");
            }
        }
    }
    let way = format!("-p {} --cafile {ca}", broker.address_of("mutual").port());
    let output = publish(&broker, &format!("{way} -t tls/none -m message"));
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn mosquitto_pub_and_sub_at_every_qos_and_version() {
    if !mosquitto() {
        return;
    }
    let broker = Broker::dev();
    for version in VERSIONS {
        for qos in 0..3 {
            let topic = format!("mosquitto/{version}/{qos}/{}", std::process::id());
            let subscriber =
                Subscriber::start(&broker, &format!("-V {version} -q {qos} -t {topic}"));
            for number in 0..5 {
                let options = format!("-V {version} -q {qos} -t {topic} -m message-{number}");
                let output = publish(&broker, &options);
                assert!(output.status.success(), "{output:?}");
                assert_eq!(subscriber.line_with("message-"), format!("message-{number}"));
            }
        }
    }
}

#[test]
fn mosquitto_sub_resumes_its_session_and_gets_retained_messages() {
    if !mosquitto() {
        return;
    }
    let broker = Broker::dev();
    for version in VERSIONS {
        let topic = format!("resumed/{version}/{}", std::process::id());
        let session = format!("-V {version} -c -i {version}-session -q 1 -t {topic}");
        let once = command(&broker, "mosquitto_sub", &format!("{session} -E")).output().unwrap();
        assert!(once.status.success(), "{once:?}");
        for text in ["one", "two"] {
            publish(&broker, &format!("-V {version} -q 1 -t {topic} -m message-{text}"));
        }
        let subscriber = Subscriber::spawn(&broker, &session);
        for text in ["one", "two"] {
            assert_eq!(subscriber.line_with("message-"), format!("message-{text}"));
        }
        drop(subscriber);
        publish(&broker, &format!("-V {version} -q 1 -r -t {topic} -m message-kept"));
        let output = command(&broker, "mosquitto_sub", &format!("-V {version} -t {topic} -C 1"))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "message-kept");
    }
}

/// An instance where `alice` may publish and subscribe under `open/`.
fn instance() -> Option<Instance> {
    if is_foreign() {
        return None;
    }
    let instance = Instance::create();
    instance.user("alice");
    instance.acl("allow all open/# --to user:alice");
    Some(instance)
}

#[test]
fn mosquitto_clients_see_wrong_passwords_and_denied_topics() {
    let Some(instance) = instance() else { return };
    if !mosquitto() {
        return;
    }
    let broker = instance.run(&["access.order=[\"rules\"]"]);
    for version in VERSIONS {
        let login = format!("-V {version} -u alice -P alice-password");
        let subscriber = Subscriber::start(&broker, &format!("{login} -q 1 -t open/x"));
        let allowed = publish(&broker, &format!("{login} -q 1 -t open/x -m message-allowed"));
        assert!(allowed.status.success(), "{allowed:?}");
        assert_eq!(subscriber.line_with("message-"), "message-allowed");
        let wrong =
            publish(&broker, &format!("-V {version} -u alice -P wrong -q 1 -t open/x -m x"));
        assert!(!wrong.status.success(), "{wrong:?}");
        let anonymous = publish(&broker, &format!("-V {version} -q 1 -t open/x -m x"));
        assert!(!anonymous.status.success(), "{anonymous:?}");
        let denied = publish(&broker, &format!("{login} -q 1 -t closed/x -m x"));
        let told = String::from_utf8_lossy(&denied.stderr).to_lowercase();
        if version == "mqttv5" {
            assert!(told.contains("not authorized"), "{denied:?}");
        } else {
            assert!(denied.status.success(), "[MQTT-3.3.5-2] {denied:?}");
        }
        if version == "mqttv31" {
            continue; // it has no word for a subscription that is denied
        }
        let filter = command(&broker, "mosquitto_sub", &format!("{login} -t closed/x -C 1 -W 30"))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&filter.stderr).to_lowercase();
        assert!(told.contains("denied"), "{filter:?}");
    }
}

/// Runs `paho_client.py`, which checks for itself and says what it did.
#[track_caller]
fn run_paho(broker: &Broker, arguments: &[&str]) {
    let output = Command::new(python())
        .args(["-c", include_str!("paho_client.py")])
        .arg(broker.address.port().to_string())
        .args(arguments)
        .output()
        .unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}:\n{stdout}\n{stderr}");
    assert!(stdout.contains("done"), "{stdout}");
}

#[test]
fn paho_publishes_and_subscribes_at_every_qos_and_version() {
    if paho() {
        run_paho(&Broker::dev(), &["roundtrip"]);
    }
}

#[test]
fn paho_resumes_its_session() {
    if paho() {
        run_paho(&Broker::dev(), &["resume"]);
    }
}

#[test]
fn paho_sees_wrong_passwords_and_denied_topics() {
    let Some(instance) = instance() else { return };
    if paho() {
        run_paho(&instance.run(&["access.order=[\"rules\"]"]), &["access"]);
    }
}

#[test]
fn paho_goes_through_all_three_plugins() {
    if is_foreign() || !paho() {
        return;
    }
    let instance = Instance::create();
    let broker = instance.run(&[
        "auth.order=[\"plugin:token-auth\"]",
        "plugins.token-auth.bundled=true",
        "plugins.token-auth.config={ key = \"a key of more than sixteen bytes\" }",
        "plugins.own-topics.config={ publish = [\"devices/${clientid}/#\"], subscribe = [\"devices/${clientid}/#\"] }",
        "publish.order=[\"plugin:json-stamp\"]",
        "plugins.json-stamp.bundled=true",
    ]);
    run_paho(&broker, &["plugins", "a key of more than sixteen bytes"]);
}
