//! What keeps a broker from starting: exit code 2 and one clear message.
//! What must not live here: refusals of a running broker.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use crate::support::broker::is_foreign;
use crate::support::instance::{Ran, component, run};
use crate::support::{Case, Instance, Version};

/// It ended with exit code 2 and said all of `words`, without a panic or a stack.
#[track_caller]
fn clear(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(!ran.stdout.contains("ready"), "{ran:?}");
    for word in words {
        assert!(ran.stderr.contains(word), "{word:?} is missing in:\n{}", ran.stderr);
    }
    for noise in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!ran.stderr.contains(noise), "{}", ran.stderr);
    }
    assert!(ran.stderr.lines().count() <= 30, "one message:\n{}", ran.stderr);
}

fn instance() -> Option<Instance> {
    (!is_foreign()).then(Instance::create)
}

#[test]
fn a_directory_that_is_not_there() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    clear(&run(&["run", "nowhere"], directory.path(), ""), &["nowhere"]);
    let status = run(&["-C", "nowhere", "user", "list"], directory.path(), "");
    assert!([1, 2].contains(&status.code), "{status:?}");
    assert!(status.stderr.contains("nowhere"), "{status:?}");
}

#[test]
fn a_directory_that_is_no_brokers() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("empty")).unwrap();
    clear(&run(&["run", "empty"], directory.path(), ""), &["empty"]);
    fs::write(directory.path().join("file"), "x").unwrap();
    clear(&run(&["run", "file"], directory.path(), ""), &["file"]);
    clear(&run(&["create", "file"], directory.path(), ""), &["file"]);
}

#[test]
fn run_create_makes_the_directory_once() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made");
    let arguments =
        ["run", path.to_str().unwrap(), "--create", "--set", "listeners.mqtt.bind=127.0.0.1:0"];
    for round in 0..2 {
        let mut broker = crate::support::Broker::start(&arguments);
        assert_eq!(broker.log().contains("demo"), round == 0, "{}", broker.log());
        let case = Case::new(&broker, Version::V5);
        assert_ne!(case.try_open(&case.connect("a")).1.code, 0, "a real instance, not --dev");
        broker.terminate();
        assert!(broker.stopped().success());
    }
}

#[test]
fn a_port_that_is_taken() {
    let Some(instance) = instance() else { return };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let setting = format!("listeners.mqtt.bind=127.0.0.1:{port}");
    clear(&instance.try_run(&[&setting]), &[&port]);
    let directory = tempfile::tempdir().unwrap();
    clear(&run(&["run", "--dev", "--port", &port], directory.path(), ""), &[&port]);
}

#[test]
fn a_directory_that_another_broker_holds() {
    let Some(instance) = instance() else { return };
    let broker = instance.run(&[]);
    clear(&instance.try_run(&[]), &["broker"]);
    let case = Case::new(&broker, Version::V5);
    assert_ne!(case.try_open(&case.connect("a")).1.code, 0, "the first one goes on");
}

#[test]
fn a_lock_left_by_a_broker_that_was_killed_is_no_hindrance() {
    let Some(instance) = instance() else { return };
    drop(instance.run(&[]));
    drop(instance.run(&[]));
    instance.cli(&["user", "list"]);
}

/// `broker.toml` with those lines at its end.
fn configured(instance: &Instance, lines: &str) {
    let path = instance.path().join("broker.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{text}\n{lines}\n")).unwrap();
}

#[test]
fn mistakes_in_broker_toml_are_told_with_file_line_and_a_hint() {
    for (lines, words) in [
        ("[limits]\npacket_bytes_maxx = 1", &["broker.toml", "packet_bytes_max"][..]),
        ("[limits]\nreceive_maximum = 0", &["broker.toml", "receive_maximum"]),
        ("[limits]\nreceive_maximum = \"many\"", &["broker.toml", "receive_maximum"]),
        ("[listeners.other]\nbind = \"nonsense\"", &["broker.toml", "nonsense"]),
        ("[listenrs.other]", &["broker.toml", "listenrs"]),
        ("[limits", &["broker.toml"]),
        ("[plugins.mine]\nfile = \"a.wasm\"\nbundled = true", &["broker.toml", "mine"]),
        ("[plugins.mine]\nbundled = true", &["broker.toml", "mine"]),
    ] {
        let Some(instance) = instance() else { return };
        configured(&instance, lines);
        let ran = run(&["run", instance.path().to_str().unwrap()], &instance.path(), "");
        clear(&ran, words);
    }
}

#[test]
fn mistakes_in_settings_on_the_command_line() {
    let Some(instance) = instance() else { return };
    for (setting, word) in [
        ("limits.nonsense=1", "nonsense"),
        ("access.order=[\"rule\"]", "rules"),
        ("access.order=[\"plugin:missing\"]", "missing"),
        ("workers.count=0", "workers.count"),
        ("no-equals-sign", "no-equals-sign"),
    ] {
        clear(&instance.try_run(&[setting]), &[word]);
    }
}

#[test]
fn a_database_that_is_damaged_or_of_a_newer_version() {
    let Some(instance) = instance() else { return };
    let database = instance.path().join("directory.db");
    fs::write(&database, "this is no database, but a text of some length").unwrap();
    clear(&instance.try_run(&[]), &["directory.db"]);
    for leftover in ["directory.db-wal", "directory.db-shm"] {
        let _ = fs::remove_file(instance.path().join(leftover));
    }
    fs::remove_file(&database).unwrap();
    clear(&instance.try_run(&[]), &["directory.db"]);
}

#[test]
fn a_plugin_that_cannot_be_loaded_or_does_not_start() {
    let Some(instance) = instance() else { return };
    let order = "access.order=[\"plugin:bad\"]";
    for file in ["not-wasm", "no-manifest", "missing-export", "wrong-abi", "core-module"] {
        let path = component(&format!("fixtures/minimal/{file}.wasm"));
        let ran = instance.try_run(&[order, &format!("plugins.bad.file=\"{path}\"")]);
        clear(&ran, &["bad"]);
    }
    let ran = instance.try_run(&[order, "plugins.bad.file=\"nowhere.wasm\""]);
    clear(&ran, &["bad", "nowhere.wasm"]);
    let misbehave =
        format!("plugins.bad.file=\"{}\"", component("fixtures/misbehave/misbehave.wasm"));
    for mode in ["init-error", "init-panic", "init-loop"] {
        let config = format!("plugins.bad.config={{ mode = \"{mode}\" }}");
        clear(&instance.try_run(&[order, &misbehave, &config]), &["bad"]);
    }
    let config = "plugins.bad.config={ no_such_key = 1 }";
    let ran = instance.try_run(&[order, &misbehave, config]);
    clear(&ran, &["bad", "no_such_key"]);
}

#[test]
fn a_plugin_without_the_hook_that_the_order_wants() {
    let Some(instance) = instance() else { return };
    let minimal = format!("plugins.bad.file=\"{}\"", component("fixtures/minimal/minimal.wasm"));
    let ran = instance.try_run(&["auth.order=[\"plugin:bad\"]", &minimal]);
    clear(&ran, &["bad", "authenticate"]);
}

#[test]
fn dev_says_loudly_that_everything_is_allowed() {
    if is_foreign() {
        return;
    }
    let broker = crate::support::Broker::dev();
    let log = broker.log().to_lowercase();
    assert!(log.contains("anonymous") || log.contains("everything"), "{log}");
    assert!(broker.address.ip().is_loopback());
    assert!(!Path::new("dev").exists());
}
