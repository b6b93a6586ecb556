//! A created instance and the command line of `wasmqtt`.
//! What must not live here: what its rules are meant to allow.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;

use super::broker::{Broker, command};

/// A directory that `wasmqtt create` made.
pub(crate) struct Instance {
    temporary: tempfile::TempDir,
}

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary to its end.
#[track_caller]
pub(crate) fn run(arguments: &[&str], directory: &Path, stdin: &str) -> Ran {
    let mut child = command(arguments, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut pipe = child.stdin.take().unwrap();
    let text = stdin.to_owned();
    let writer = thread::spawn(move || pipe.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // A command that does not read its input closes it: no fault of the test.
    let _written = writer.join().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Instance {
    #[track_caller]
    pub(crate) fn create() -> Self {
        let instance = Self { temporary: tempfile::tempdir().unwrap() };
        let ran = run(&["create", "broker"], instance.temporary.path(), "");
        assert_eq!(ran.code, 0, "{ran:?}");
        instance
    }

    /// The broker's directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.temporary.path().join("broker")
    }

    /// `wasmqtt -C DIR …`, whatever comes of it.
    #[track_caller]
    pub(crate) fn try_cli(&self, arguments: &[&str], stdin: &str) -> Ran {
        let all = [&["-C", "broker"], arguments].concat();
        run(&all, self.temporary.path(), stdin)
    }

    /// `wasmqtt -C DIR …`, successfully: its standard output.
    #[track_caller]
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        self.cli_with(arguments, "")
    }

    #[track_caller]
    pub(crate) fn cli_with(&self, arguments: &[&str], stdin: &str) -> String {
        let ran = self.try_cli(arguments, stdin);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.stdout
    }

    /// `… --json`, parsed.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.cli(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Adds a user whose password is `NAME-password`.
    #[track_caller]
    pub(crate) fn user(&self, name: &str) {
        self.user_with(name, &[]);
    }

    #[track_caller]
    pub(crate) fn user_with(&self, name: &str, options: &[&str]) {
        let arguments = [&["user", "add", name, "--password-stdin"], options].concat();
        self.cli_with(&arguments, &format!("{name}-password\n"));
    }

    /// `acl allow|deny ACTION PATTERN --to WHO`, written in one string.
    #[track_caller]
    pub(crate) fn acl(&self, rule: &str) {
        let words: Vec<&str> = rule.split_whitespace().collect();
        self.cli(&[&["acl"], words.as_slice()].concat());
    }

    /// Starts it on a free port, with two workers and those settings.
    #[track_caller]
    pub(crate) fn run(&self, settings: &[&str]) -> Broker {
        let path = self.path();
        let arguments = self.run_arguments(&path, settings);
        Broker::start(&arguments)
    }

    /// Tries to start it with those settings, where it is expected to stop by itself.
    #[track_caller]
    pub(crate) fn try_run(&self, settings: &[&str]) -> Ran {
        let path = self.path();
        run(&self.run_arguments(&path, settings), self.temporary.path(), "")
    }

    fn run_arguments<'a>(&self, path: &'a Path, settings: &[&'a str]) -> Vec<&'a str> {
        let own = ["listeners.mqtt.bind=127.0.0.1:0", "workers.count=2"];
        let mut arguments = vec!["run", path.to_str().unwrap()];
        for setting in own.iter().chain(settings) {
            arguments.extend(["--set", setting]);
        }
        arguments
    }
}

/// A component of `plugins/`, by its path there.
pub(crate) fn component(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(path);
    assert!(file.exists(), "{} is not there", file.display());
    file.canonicalize().unwrap().to_str().unwrap().to_owned()
}
