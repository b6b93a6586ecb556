//! The commands of `wasmqtt` where something is in their way: each other, a broker that died or is
//! stuck, a terminal that is not there.
//! What must not live here: what they do when all is well, see `tests/e2e`.
#![allow(clippy::unwrap_used, reason = "a test ends where it can't go on")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{FlockOperation, flock};

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn start(directory: &Path, arguments: &[&str], stdin: &str) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_wasmqtt"))
        .args(arguments)
        .current_dir(directory)
        .env_remove("WASMQTT_LOG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses before it reads closes its input.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child
}

fn end(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(directory: &Path, arguments: &[&str]) -> Ran {
    end(start(directory, arguments, ""))
}

/// A temporary directory with a broker's directory `b` in it.
#[track_caller]
fn created() -> tempfile::TempDir {
    let parent = tempfile::tempdir().unwrap();
    let ran = run(parent.path(), &["create", "b"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    parent
}

#[track_caller]
fn refused(ran: &Ran, code: i32, stderr: &str) {
    assert_eq!((ran.code, ran.stderr.as_str(), ran.stdout.as_str()), (code, stderr, ""));
}

#[test]
fn create_answers_in_json_with_passwords_that_differ() {
    let parent = tempfile::tempdir().unwrap();
    let ran = run(parent.path(), &["create", "b", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(made["directory"], "b");
    let users = made["users"].as_array().unwrap();
    assert_eq!((&users[0]["name"], &users[1]["name"]), (&"admin".into(), &"demo".into()));
    assert_ne!(users[0]["password"], users[1]["password"]);
}

#[test]
fn commands_that_write_at_once_wait_for_each_other() {
    let parent = created();
    let add = |number: usize| {
        let name = format!("user-{number}");
        start(parent.path(), &["-C", "b", "user", "add", &name, "--password-stdin"], "secret\n")
    };
    let children: Vec<Child> = (0..6).map(add).collect();
    for child in children {
        let ran = end(child);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let list = run(parent.path(), &["-C", "b", "user", "list"]).stdout;
    assert_eq!(list.matches("user-").count(), 6, "{list}");
}

#[test]
fn two_creates_at_once_make_one_broker() {
    let parent = tempfile::tempdir().unwrap();
    let children = [0, 1, 2].map(|_| start(parent.path(), &["create", "b"], ""));
    let mut codes = children.map(|child| end(child).code);
    codes.sort_unstable();
    assert_eq!(codes, [0, 2, 2]);
    assert_eq!(run(parent.path(), &["-C", "b", "user", "list"]).code, 0);
}

#[test]
fn a_socket_and_a_lock_file_that_a_dead_broker_left_are_no_hindrance() {
    let parent = created();
    let directory = parent.path().join("b");
    drop(UnixListener::bind(directory.join("admin.sock")).unwrap());
    fs::write(directory.join("lock"), "broker 4194305\n").unwrap();
    let ran = run(parent.path(), &["-C", "b", "user", "list"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(run(parent.path(), &["-C", "b", "status"]).code, 1);
}

#[test]
fn a_broker_that_does_not_answer_is_named() {
    let parent = created();
    let path = parent.path().join("b/lock");
    let lock = File::options().write(true).open(&path).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    fs::write(&path, "broker 4194305\n").unwrap();
    refused(
        &run(parent.path(), &["-C", "b", "user", "list"]),
        1,
        "error: a broker (pid 4194305) holds b, but does not answer on admin.sock: \
         No such file or directory (os error 2)\n  \
         hint: it may be starting, stopping or stuck: look at its log\n",
    );
    refused(
        &run(parent.path(), &["run", "b"]),
        2,
        "error: b is locked by another broker (pid 4194305)\n  \
         hint: look at it: wasmqtt -C b status\n",
    );
}

#[test]
fn a_broker_that_dies_before_it_answers_is_told() {
    let parent = created();
    let path = parent.path().join("b/lock");
    let lock = File::options().write(true).open(&path).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    fs::write(&path, "broker 4194305\n").unwrap();
    let listener = UnixListener::bind(parent.path().join("b/admin.sock")).unwrap();
    let broker = std::thread::spawn(move || {
        // The probe, then the request.
        for _ in 0..2 {
            drop(listener.accept().unwrap());
        }
    });
    let ran = run(parent.path(), &["-C", "b", "user", "rm", "demo"]);
    broker.join().unwrap();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("went away before it answered"), "{}", ran.stderr);
}

#[test]
fn a_command_without_a_broker_says_how_to_name_one() {
    let parent = tempfile::tempdir().unwrap();
    refused(
        &run(parent.path(), &["user", "list"]),
        2,
        "error: which broker? The working directory has no broker.toml\n  \
         hint: name its directory: wasmqtt -C DIR …\n",
    );
    refused(
        &run(parent.path(), &["run"]),
        2,
        "error: which broker? Name its directory: wasmqtt run DIR\n  \
         hint: a throw-away broker needs none: wasmqtt run --dev\n",
    );
    refused(
        &run(parent.path(), &["-C", "none", "acl", "list"]),
        2,
        "error: there is no directory none\n  hint: make one: wasmqtt create none\n",
    );
}

#[test]
fn the_working_directory_can_be_the_brokers() {
    let parent = created();
    let ran = run(&parent.path().join("b"), &["acl", "list", "--json"]);
    let rules: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(rules[0]["to"], "role:admin");
}

#[test]
fn a_broken_broker_toml_keeps_nobody_from_users_and_rules() {
    let parent = created();
    fs::write(parent.path().join("b/broker.toml"), "[broken").unwrap();
    assert_eq!(run(parent.path(), &["-C", "b", "user", "list"]).code, 0);
    let check = run(parent.path(), &["-C", "b", "acl", "check", "demo", "demo", "publish", "t"]);
    assert_eq!(check.code, 2);
    assert!(check.stderr.contains("b/broker.toml:1:8"), "{}", check.stderr);
}

#[test]
fn a_check_names_rules_that_are_near() {
    let parent = created();
    let allow = ["-C", "b", "acl", "allow", "subscribe", "shop/+", "--to", "user:demo"];
    assert_eq!(run(parent.path(), &allow).stdout, "rule 2: allow subscribe shop/+ to user:demo\n");
    let check = |topic: &str| {
        let ran =
            run(parent.path(), &["-C", "b", "acl", "check", "demo", "demo", "subscribe", topic]);
        (ran.code, ran.stdout)
    };
    assert_eq!(
        check("shop/1"),
        (
            0,
            "allow: demo as client demo, subscribe shop/1\n\
             decided by rule 2: allow subscribe shop/+ to user:demo\n  \
             STEP   ANSWER  WHY\n  \
             rules  allow   rule 2: allow subscribe shop/+ to user:demo\n"
                .to_owned()
        )
    );
    assert_eq!(
        check("shop/#"),
        (
            1,
            "deny: demo as client demo, subscribe shop/#\n\
             decided by plugin:own-topics\n  \
             STEP               ANSWER  WHY\n  \
             rules              next    no rule applies (rule 2: does not cover the whole filter)\n  \
             plugin:own-topics  deny    may subscribe within commands/demo/# only (0x87)\n"
                .to_owned()
        )
    );
}

#[test]
fn dev_stays_on_loopback_and_without_users() {
    let parent = tempfile::tempdir().unwrap();
    let dev =
        |setting: &str| run(parent.path(), &["run", "--dev", "--port", "0", "--set", setting]);
    refused(
        &dev("listeners.mqtt.bind=0.0.0.0:0"),
        2,
        "error: --dev listens on loopback only, not on 0.0.0.0:0 (listener mqtt)\n  \
         hint: a real broker: wasmqtt run DIR --create\n",
    );
    refused(
        &dev("auth.order=[\"password\"]"),
        2,
        "error: --dev has no users: \"password\" can't be in `auth.order`\n  \
         hint: a real broker: wasmqtt run DIR --create\n",
    );
}

#[test]
fn options_that_do_not_go_together_are_bad_usage() {
    let parent = tempfile::tempdir().unwrap();
    for arguments in [
        &["run", "b", "--dev"][..],
        &["run", "b", "--port", "1"],
        &["run", "--dev", "--create"],
        &["acl", "allow", "publish", "t"],
        &["acl", "check", "demo", "demo", "publish"],
        &[],
    ] {
        let ran = run(parent.path(), arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("Usage: wasmqtt"), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn a_log_filter_that_is_not_one_is_told() {
    let parent = created();
    let output = Command::new(env!("CARGO_BIN_EXE_wasmqtt"))
        .args(["run", "b", "--set", "listeners.mqtt.bind=127.0.0.1:0"])
        .current_dir(parent.path())
        .env("WASMQTT_LOG", "wasmqtt=loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: WASMQTT_LOG=wasmqtt=loud is not usable"), "{stderr}");
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let parent = created();
    let path = parent.path().join("b/directory.db");
    let mut bytes = fs::read(&path).unwrap();
    // SQLite's header has the user version at byte 60, four bytes, the largest first.
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    for arguments in [&["run", "b"][..], &["-C", "b", "user", "list"]] {
        let ran = run(parent.path(), arguments);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        let start = "error: b/directory.db has schema version 99, this program knows up to ";
        assert!(ran.stderr.starts_with(start), "{}", ran.stderr);
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn client_options_that_cannot_be_are_refused_before_anything_is_connected() {
    let directory = tempfile::tempdir().unwrap();
    let check = |words: &[&str], error: &str| {
        let ran = run(directory.path(), words);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(error), "{words:?}: {}", ran.stderr);
    };
    check(&["pub", "-m", "x"], "which topic?");
    check(&["pub", "-t", "a/+", "-m", "x"], "wildcards are for subscriptions only");
    check(&["pub", "-t", "a"], "<--message <MESSAGE>|--file <FILE>|--stdin-file");
    check(&["pub", "-t", "a", "-m", "x", "-n"], "cannot be used with");
    check(&["pub", "-t", "a", "-f", "missing"], "can't read missing: No such file");
    check(&["pub", "-t", "a", "-m", "x", "-q", "3"], "3 is not in 0..=2");
    check(&["pub", "-t", "a", "-m", "x", "-V", "4"], "invalid value '4'");
    check(&["pub", "-t", "a", "-m", "x", "-L", "http://a"], "http:// is not one of mqtt://");
    check(&["pub", "-t", "a", "-m", "x", "-L", "mqtt://a", "-h", "b"], "cannot be used with");
    check(&["pub", "-t", "a", "-m", "x", "-c"], "--id <ID>");
    check(&["pub", "-t", "a", "-m", "x", "-V", "3.1.1", "-P", "y"], "a password needs a user");
    check(&["pub", "-t", "a", "-m", "x", "--cert", "y"], "--key <FILE>");
    check(&["pub", "-t", "a", "-m", "x", "--cafile", "missing"], "missing: ");
    check(&["pub", "-t", "a", "-m", "x", "--will-qos", "1"], "--will-topic <TOPIC>");
    check(&["pub", "-t", "a", "-m", "x", "-D", "will", "content-type", "y"], "there is no Will");
    check(&["pub", "-t", "a", "-m", "x", "-D", "publish", "colour", "y"], "publish can have");
    let property = ["-D", "publish", "content-type", "y", "-V", "3.1"];
    check(&[&["pub", "-t", "a", "-m", "x"], &property[..]].concat(), "only MQTT 5 has properties");
    check(&["-C", "b", "pub", "-t", "a", "-m", "x"], "-C DIR is not for pub, sub and bench");
    check(&["sub"], "which topics?");
    check(&["sub", "-t", "a#"], "`#` must be the whole level");
    check(&["sub", "-t", "a", "-F", "%z"], "%z is no field");
    check(&["sub", "-t", "a", "-F", "%t", "--json"], "--json and -F exclude each other");
    check(&["sub", "-t", "a", "-C", "0"], "0 is not in 1..");
    check(&["sub", "-t", "a", "-W", "soon"], "not a number of seconds");
    check(&["sub", "-t", "a", "-V", "3.1.1", "--no-local"], "only MQTT 5 has --no-local");
    check(&["bench", "pub", "-c", "0"], "0 is not in 1..");
    check(&["bench", "pub", "--rate", "1", "-I", "1"], "cannot be used with");
}

/// `-h` is the host in these commands, `-C` a count, `-V` a version.
#[test]
fn the_letters_of_the_client_commands_are_mosquittos() {
    let directory = tempfile::tempdir().unwrap();
    let words = ["sub", "-h", "host.invalid", "-t", "a", "-C", "1", "-V", "mqttv311", "-W", "60"];
    let ran = run(directory.path(), &words);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("error: host host.invalid is not known"), "{}", ran.stderr);
    for command in
        [&["pub"][..], &["sub"], &["bench", "pub"], &["bench", "sub"], &["bench", "conn"]]
    {
        let ran = run(directory.path(), &[command, &["--help"]].concat());
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("Examples:"), "{}", ran.stdout);
        assert!(ran.stdout.contains("Exit codes:"), "{}", ran.stdout);
    }
}
