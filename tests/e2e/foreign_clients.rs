//! `wasmqtt pub` and `sub` beside mosquitto_pub and mosquitto_sub, and against Mosquitto as a broker:
//! in plain, over TLS, over WebSocket, over a Unix socket.
//! What must not live here: this broker's own transports.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Broker;
use crate::support::console::{Console, VERSIONS, check, options, options_in, publish};

/// Whether Mosquitto's programs are installed. Where `CI` is set they have to be.
fn installed() -> bool {
    let probe = "command -v mosquitto_pub && (command -v mosquitto || test -x /usr/sbin/mosquitto)";
    let output = Command::new("sh").args(["-c", probe]).output().unwrap();
    let there = output.status.success();
    assert!(there || std::env::var_os("CI").is_none(), ".ci/run installs Mosquitto");
    there
}

/// Mosquitto with a listener per transport.
struct Mosquitto {
    child: Child,
    directory: tempfile::TempDir,
    plain: u16,
    tls: u16,
    websocket: u16,
}

fn free_ports<const N: usize>() -> [u16; N] {
    let all: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    all.map(|listener| listener.local_addr().unwrap().port())
}

/// A certificate for `localhost` in `server.pem` and its key.
fn certificate(directory: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(directory.join("server.pem"), made.cert.pem()).unwrap();
    std::fs::write(directory.join("server.key"), made.signing_key.serialize_pem()).unwrap();
}

impl Mosquitto {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        certificate(directory.path());
        let [plain, tls, websocket] = free_ports();
        let at = directory.path().display();
        let config = format!(
            "allow_anonymous true\nper_listener_settings false\nlog_type error\n\
             listener {plain} 127.0.0.1\n\
             listener {tls} 127.0.0.1\ncertfile {at}/server.pem\nkeyfile {at}/server.key\n\
             listener {websocket} 127.0.0.1\nprotocol websockets\n\
             listener 0 {at}/socket\nuser root\n"
        );
        let file = directory.path().join("mosquitto.conf");
        std::fs::write(&file, config).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
        let child = Command::new("mosquitto")
            .env("PATH", path)
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto starts");
        let mosquitto = Self { child, directory, plain, tls, websocket };
        for port in [plain, tls, websocket] {
            mosquitto.listens(port);
        }
        mosquitto
    }

    #[track_caller]
    fn listens(&self, port: u16) {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen on {port}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn mosquitto_as_a_broker_on_every_version_qos_and_transport() {
    if !installed() {
        return;
    }
    let mosquitto = Mosquitto::start();
    let at = mosquitto.directory.path().display().to_string();
    let transports = [
        format!("-h 127.0.0.1 -p {}", mosquitto.plain),
        format!("-h localhost -p {} --cafile {at}/server.pem", mosquitto.tls),
        format!("-h 127.0.0.1 -p {} --ws", mosquitto.websocket),
        format!("--unix {at}/socket"),
    ];
    for transport in &transports {
        for version in VERSIONS {
            let subscribe =
                format!("sub {transport} -V {version} -q 2 -t t/# -C 3 -W 30 -F %t-%q-%l");
            let mut sub = Console::subscribed(&words(&subscribe));
            for qos in 0..3 {
                let publish = format!("pub {transport} -V {version} -q {qos} -t t/{qos} -s");
                let ran = check(&words(&publish), &"x".repeat(10_000));
                assert_eq!(ran.code, 0, "{publish}: {ran:?}");
                assert_eq!(sub.line(), format!("t/{qos}-{qos}-10000"));
            }
            assert_eq!(sub.ended(), 0);
        }
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_with_the_way_out() {
    if !installed() {
        return;
    }
    let mosquitto = Mosquitto::start();
    let at = mosquitto.directory.path();
    let publish =
        |more: &str| options_in(&format!("pub -p {} -t a -m b {more}", mosquitto.tls), at, "");
    certificate_of_another(at);
    let unknown = publish("-h localhost --cafile other/server.pem");
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.stderr.contains("hint: name the certificate of its authority"), "{unknown:?}");
    let wrong_name = publish("-h 127.0.0.1 --cafile server.pem");
    assert_eq!(wrong_name.code, 1, "{wrong_name:?}");
    assert!(wrong_name.stderr.contains("--sni NAME"), "{wrong_name:?}");
    assert_eq!(publish("-h 127.0.0.1 --cafile server.pem --sni localhost").code, 0);
    assert_eq!(publish("-h 127.0.0.1 --capath . --sni localhost").code, 0);
    assert_eq!(publish("-h localhost --cafile server.pem --tls-version tlsv1.2").code, 0);
    let insecure = publish("-h 127.0.0.1 --insecure");
    assert_eq!(insecure.code, 0, "{insecure:?}");
    assert!(insecure.stderr.contains("!! --insecure"), "{insecure:?}");
    let plain = publish("-h localhost --connect-timeout 30");
    assert_eq!(plain.code, 1, "{plain:?}");
    let missing = publish("-h localhost --cafile missing.pem");
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.stderr.contains("missing.pem"), "{missing:?}");
    let no_tls = options_in(
        &format!("pub -h localhost -p {} --insecure -t a -m b", mosquitto.plain),
        at,
        "",
    );
    assert_eq!(no_tls.code, 1, "{no_tls:?}");
}

fn certificate_of_another(directory: &Path) {
    let other = directory.join("other");
    std::fs::create_dir(&other).unwrap();
    certificate(&other);
}

#[test]
fn a_websocket_path_that_is_not_there_is_said() {
    let broker = Broker::dev();
    // No WebSocket listener: the handshake itself is what fails.
    let ran = check(&options(&broker, "pub --ws --ws-path /nowhere -t a -m b"), "");
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("error: WebSocket with 127.0.0.1:"), "{ran:?}");
}

#[test]
fn mosquitto_pub_and_sub_and_ours_understand_each_other() {
    if !installed() {
        return;
    }
    let broker = Broker::dev();
    let port = broker.address.port().to_string();
    for (version, theirs) in VERSIONS.iter().zip(["mqttv31", "mqttv311", "mqttv5"]) {
        let topic = format!("both/{version}");
        let mut ours = Console::subscribed(&options(
            &broker,
            &format!("sub -V {version} -q 2 -t {topic} -C 1 -W 30 -v"),
        ));
        let theirs_pub = ["-p", &port, "-V", theirs, "-q", "2", "-t", &topic, "-m", "from theirs"];
        let sent = Command::new("mosquitto_pub").args(theirs_pub).output().unwrap();
        assert!(sent.status.success(), "{sent:?}");
        assert_eq!(ours.line(), format!("{topic} from theirs"));
        assert_eq!(ours.ended(), 0);
        publish(&broker, &format!("-V {version} -q 1 -r -t {topic} -m from-ours"), "");
        let theirs_sub = ["-p", &port, "-V", theirs, "-t", &topic, "-C", "1", "-W", "30", "-v"];
        let got = Command::new("mosquitto_sub").args(theirs_sub).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&got.stdout), format!("{topic} from-ours\n"));
    }
}
