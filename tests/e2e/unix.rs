//! Listeners on Unix sockets: the file that they are, who may use it, what is left of it.
//! What must not live here: what MQTT does on every transport (`transports`).

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::support::{Broker, Case, Endpoint, Instance, Version};

fn setting(path: &Path, more: &str) -> String {
    format!("listeners.unix={{ bind = \"unix:{}\"{more} }}", path.display())
}

#[track_caller]
fn works(broker: &Broker, path: &Path) {
    let case = Case::at(broker, Version::V5, &Endpoint::Unix(path.to_owned()));
    case.client("one").assert_quiet();
}

#[test]
fn the_file_is_for_its_owner_unless_a_mode_says_more_and_goes_with_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    for (more, mode) in [("", 0o600), (", unix_mode = 0o660", 0o660)] {
        let path = directory.path().join("mqtt.sock");
        let mut broker = Broker::dev_with(&["--set", &setting(&path, more)]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode);
        assert_eq!(broker.listens_at("unix"), path.to_str().unwrap());
        works(&broker, &path);
        broker.logged(&["connected", "peer=\"unix\""]);
        broker.terminate();
        broker.stopped();
        assert!(!path.exists(), "the socket is left behind");
    }
}

#[test]
fn a_path_is_relative_to_the_directory_of_the_broker() {
    let instance = Instance::create();
    let broker =
        instance.run(&["listeners.unix.bind=unix:mqtt.sock", "auth.order=[\"anonymous\"]"]);
    works(&broker, &instance.path().join("mqtt.sock"));
}

#[test]
fn what_a_killed_broker_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mqtt.sock");
    drop(Broker::dev_with(&["--set", &setting(&path, "")])); // killed
    assert!(path.exists());
    let broker = Broker::dev_with(&["--set", &setting(&path, "")]);
    works(&broker, &path);
}

#[test]
fn what_is_in_use_or_is_no_socket_stays() {
    let instance = Instance::create();
    let path = instance.path().join("taken.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let ran = instance.try_run(&[&setting(&path, "")]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("somebody listens at"), "{ran:?}");
    drop(listener);

    let file = instance.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let ran = instance.try_run(&[&setting(&file, "")]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("is not a socket"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let long = instance.path().join("x".repeat(108));
    let ran = instance.try_run(&[&setting(&long, "")]);
    assert!(ran.stderr.contains("at most 107 bytes"), "{ran:?}");
}
