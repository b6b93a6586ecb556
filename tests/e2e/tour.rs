//! README's five-minute tour, pasted line by line into one shell.
//! What must not live here: commands of our own; what the tour says is what is run.
//!
//! The tour is the section of README.md whose heading has the word "tour". Its lines are those of
//! its fenced blocks marked `sh`, `bash`, `shell` or `console` (there: behind `$ `). They run in
//! order in one shell, in an empty directory, with these changes and no others:
//! - `cargo run … --` and paths that end in `/wasmqtt` are the binary of this build;
//! - preparation of the machine (PREPARATION) is taken as done;
//! - port 1883 is a free one: it is replaced where it stands and added where it is meant;
//! - what the reader leaves running in another terminal (`wasmqtt run`, a `wasmqtt sub` that does not
//!   end by itself) is put into the background; `wasmqtt run` is waited for.
//!
//! A line must succeed, unless its comment (`# …`) has one of the words `refused`, `denied`,
//! `fails`: then it must fail, or say so.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::broker::{binary, is_foreign};

const PREPARATION: &[&str] =
    &["git clone", "cd ", "cargo build", "cargo install", "sudo ", "apt", "rustup", "brew "];
const REFUSAL: &[&str] = &["refused", "denied", "fails"];
const DEADLINE: Duration = Duration::from_secs(60);

/// The lines of the tour; `None` without README.md.
fn tour() -> Option<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(path).ok()?;
    let (mut inside, mut fence) = (false, None);
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(kind)) => fence = Some(kind.trim()),
            (Some(_), Some(_)) => fence = None,
            (None, None) if line.starts_with('#') => inside = line.to_lowercase().contains("tour"),
            (Some("sh" | "bash" | "shell"), None) if inside => lines.push(line.to_owned()),
            (Some("console"), None) if inside => {
                lines.extend(line.strip_prefix("$ ").map(str::to_owned));
            }
            _ => {}
        }
    }
    // A line that ends in a backslash goes on in the next one.
    let joined = lines.join("\n").replace("\\\n", " ");
    let commands =
        joined.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Some(commands.map(str::to_owned).collect())
}

/// The words of a line with the binary, the port and the background as they are here.
fn adapted(line: &str, port: u16) -> String {
    let (command, comment) = line.split_once(" # ").unwrap_or((line, ""));
    let mut text = command.trim().replace("1883", &port.to_string());
    if let Some(start) = text.find("cargo run")
        && let Some(end) = text[start..].find(" -- ")
    {
        text.replace_range(start..start + end + 3, "wasmqtt");
    }
    let words: Vec<&str> = text
        .split(' ')
        .map(|word| if word.ends_with("/wasmqtt") { "wasmqtt" } else { word })
        .collect();
    let mut text = words.join(" ");
    let named = text.contains(&port.to_string());
    if text.starts_with("wasmqtt run") && !named {
        let option = if text.contains("--dev") {
            format!(" --port {port}")
        } else {
            format!(" --set listeners.mqtt.bind=127.0.0.1:{port}")
        };
        let end = text.trim_end_matches(['&', ' ']).len();
        text.insert_str(end, &option);
    }
    if !named {
        for client in ["wasmqtt pub ", "wasmqtt sub ", "mosquitto_pub ", "mosquitto_sub "] {
            text = text.replace(client, &format!("{client}-p {port} "));
        }
    }
    let lasting = text.starts_with("wasmqtt run")
        || ["wasmqtt sub", "mosquitto_sub"].iter().any(|client| text.starts_with(client))
            && !["-C ", "-W ", "-E"].iter().any(|end| text.contains(end));
    if lasting && !text.ends_with('&') {
        text.push_str(" &");
    }
    if comment.is_empty() { text } else { format!("{text} # {comment}") }
}

/// One shell; what it prints comes line by line.
struct Shell {
    child: Child,
    stdin: ChildStdin,
    output: Receiver<String>,
    seen: Vec<String>,
}

impl Shell {
    fn start(directory: &Path) -> Self {
        let folder = Path::new(&binary()).parent().unwrap().display().to_string();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
        let mut child = Command::new("bash")
            .current_dir(directory)
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash");
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "exec 2>&1").unwrap();
        let (sender, output) = channel();
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, output, seen: Vec::new() }
    }

    /// Reads up to a line that `ends` takes.
    #[track_caller]
    fn until(&mut self, what: &str, ends: impl Fn(&str) -> bool) -> String {
        loop {
            let Ok(line) = self.output.recv_timeout(DEADLINE) else {
                panic!("{what} did not come:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if ends(&line) {
                return line;
            }
        }
    }

    /// Runs one line to its end, or until what it leaves running is ready.
    #[track_caller]
    fn run(&mut self, line: &str) {
        let (command, comment) = line.split_once(" # ").unwrap_or((line, ""));
        self.seen.push(format!("$ {line}"));
        let from = self.seen.len();
        writeln!(self.stdin, "{command}\necho \"[status $?]\"").unwrap();
        let status = self.until("the end of the line", |line| line.starts_with("[status "));
        if command.trim_start().starts_with("wasmqtt run") {
            if !self.seen[from..].iter().any(|line| line == "ready") {
                self.until("`ready`", |line| line == "ready");
            }
            return;
        }
        let said = self.seen[from..].join("\n").to_lowercase();
        let failed = status != "[status 0]";
        if REFUSAL.iter().any(|word| comment.contains(word)) {
            let told =
                ["denied", "refused", "not authori", "deny"].iter().any(|word| said.contains(word));
            assert!(failed || told, "`{line}` was to be refused:\n{}", self.seen.join("\n"));
        } else {
            assert!(!failed, "`{line}` failed:\n{}", self.seen.join("\n"));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Background jobs are the shell's: it ends them itself, by their ids.
        let _ = writeln!(self.stdin, "kill $(jobs -p) 2>/dev/null; wait; exit");
        let _ = self.child.wait();
    }
}

#[test]
fn every_line_of_the_tour_does_what_it_says() {
    if is_foreign() {
        return;
    }
    let Some(lines) = tour() else {
        eprintln!("there is no README.md yet");
        return;
    };
    assert!(
        !lines.is_empty(),
        "README.md has no section with \"tour\" in its heading and sh blocks"
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let directory = tempfile::tempdir().unwrap();
    let mut shell = Shell::start(directory.path());
    for line in lines {
        if PREPARATION.iter().any(|start| line.starts_with(start)) {
            continue;
        }
        shell.run(&adapted(&line, port));
    }
}

#[test]
fn lines_are_adapted_to_this_build_and_a_free_port() {
    let check = |line: &str, expected: &str| assert_eq!(adapted(line, 2000), expected);
    check(
        "cargo run --release -- run demo --create",
        "wasmqtt run demo --create --set listeners.mqtt.bind=127.0.0.1:2000 &",
    );
    check("./target/release/wasmqtt run --dev &", "wasmqtt run --dev --port 2000 &");
    check("wasmqtt run --dev --port 1883", "wasmqtt run --dev --port 2000 &");
    check("mosquitto_pub -t a -m b # refused", "mosquitto_pub -p 2000 -t a -m b # refused");
    check("mosquitto_sub -p 1883 -t a -C 1", "mosquitto_sub -p 2000 -t a -C 1");
    check("mosquitto_sub -t a", "mosquitto_sub -p 2000 -t a &");
    check("./target/release/wasmqtt sub -t a", "wasmqtt sub -p 2000 -t a &");
    check("wasmqtt pub -t a -m b  # refused", "wasmqtt pub -p 2000 -t a -m b # refused");
    check("target/release/wasmqtt -C demo acl list", "wasmqtt -C demo acl list");
}
