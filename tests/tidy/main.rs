//! The house rules that a machine can check: layers, file heads, lengths, what stands where.
//! What must not live here: anything that compilers, clippy or rustfmt check already.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod coverage;
mod source;

use std::path::Path;

use source::{Source, root, sources};

/// The modules of the core from left to right: a file uses only modules to its left.
const CORE_ORDER: &[&str] = &[
    "ids",
    "time",
    "limits",
    "topic",
    "rewrite",
    "reason",
    "properties",
    "message",
    "hook",
    "access",
    "store",
    "ordering",
    "retained",
    "router",
    "session",
    "event",
    "action",
    "worker",
];

/// Which packages of ours each folder's package may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("broker/core", &[]),
    ("broker/host", &["wasmqtt-core"]),
    ("broker/store", &["wasmqtt-core"]),
    ("broker/server", &["wasmqtt-core", "wasmqtt-host", "wasmqtt-store"]),
    ("plugin-sdk", &[]),
    ("plugins", &["wasmqtt-plugin"]),
    ("tests/bench", &[]),
    ("tests/fuzz", &["wasmqtt-core"]),
];

/// Where `unsafe` may stand: the host's one folder for it, generated bindings, system calls that
/// the load generator makes itself, an allocator that counts.
const UNSAFE_IN: &[&str] = &[
    "broker/host/src/trusted/",
    "plugin-sdk/src/",
    "plugins/",
    "tests/bench/src/",
    "tests/fuzz/src/allocations.rs",
];

const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "README.md", "broker", "plugin-sdk", "plugins", "tests"];

const LINES_MAX: usize = 700;
const PAGE_LINES_MAX: usize = 150;

/// Fails with all findings at once.
#[track_caller]
fn none(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

fn layer(module: &str) -> Option<usize> {
    CORE_ORDER.iter().position(|known| *known == module)
}

#[test]
fn files_of_the_core_use_only_modules_to_their_left() {
    let mut findings = Vec::new();
    for file in sources(&["broker/core/src"], &["rs"]) {
        let inside = file.path.strip_prefix("broker/core/src/").unwrap();
        if inside == "lib.rs" {
            continue;
        }
        let module = inside.split(['/', '.']).next().unwrap();
        let Some(own) = layer(module) else {
            findings.push(format!("{}: `{module}` has no place in CORE_ORDER", file.path));
            continue;
        };
        for (line, used) in file.crate_paths() {
            match layer(&used) {
                Some(other) if other <= own => {}
                Some(_) => findings.push(format!(
                    "{}:{line}: `{module}` uses `{used}`, which stands to its right",
                    file.path
                )),
                None => findings.push(format!(
                    "{}:{line}: `crate::{used}`: import from the module that owns the name",
                    file.path
                )),
            }
        }
    }
    none("layers of the core, see CORE_ORDER", findings);
}

#[test]
fn packages_depend_on_each_other_only_along_the_arrows() {
    let mut findings = Vec::new();
    let mut seen = 0;
    for manifest in sources(&["broker", "plugin-sdk", "plugins", "tests"], &["toml"]) {
        if !manifest.path.ends_with("Cargo.toml") {
            continue;
        }
        let folder = manifest.path.trim_end_matches("/Cargo.toml");
        let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| folder.starts_with(known)) else {
            findings.push(format!("{folder} has no line in ARROWS"));
            continue;
        };
        seen += 1;
        for (line, dependency) in manifest.our_dependencies() {
            if !allowed.contains(&dependency.as_str()) {
                findings.push(format!("{}:{line}: {dependency}", manifest.path));
            }
        }
    }
    assert!(seen >= 6, "only {seen} manifests found");
    none("arrows between packages", findings);
}

#[test]
fn every_file_begins_with_what_lives_here_and_what_must_not() {
    let mut findings = Vec::new();
    for file in sources(&["broker", "plugin-sdk", "plugins", "tests"], &["rs"]) {
        let head: Vec<&str> =
            file.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let head = head.join(" ");
        let sentences = head.trim_end().replace("; ", ". ").split(". ").count();
        if sentences < 2 {
            findings.push(file.path);
        }
    }
    none("files without two sentences of `//!`", findings);
}

#[test]
fn no_file_is_longer_than_one_room() {
    let long = sources(&["broker", "plugin-sdk", "plugins", "tests"], &["rs", "py"])
        .into_iter()
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"));
    none("files over 700 lines", long.collect());
}

#[test]
fn nothing_stray_stands_at_the_top_level() {
    let known = |name: &String| TOP_LEVEL.contains(&name.as_str()) || name.starts_with("LICENSE");
    let stray =
        source::top_level().into_iter().filter(|name| !name.starts_with('.') && !known(name));
    none("entries that the layout does not have", stray.collect());
}

#[test]
fn no_text_names_one_machine_or_a_registrys_host() {
    let names = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["/ho", "me/"].concat(),
        ["/fa", "rm/"].concat(),
        ["bash_", "jobs"].concat(),
        ["crates", ".io"].concat(),
        ["pypi", ".org"].concat(),
        ["files.python", "hosted"].concat(),
        ["deb.debian", ".org"].concat(),
        ["registry.", "npmjs"].concat(),
    ];
    let mut findings = Vec::new();
    for file in sources(&["."], &[]) {
        if file.path.ends_with("Cargo.lock") {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            if let Some(name) = names.iter().find(|name| line.contains(name.as_str())) {
                findings.push(format!("{}:{}: {name}", file.path, number + 1));
            }
        }
    }
    none("paths of one machine, or hosts of registries", findings);
}

#[test]
fn unsafe_stands_only_where_it_is_named() {
    let mut findings = Vec::new();
    for file in sources(&["broker", "plugin-sdk", "plugins", "tests"], &["rs"]) {
        if UNSAFE_IN.iter().any(|allowed| file.path.starts_with(allowed)) {
            continue;
        }
        for (number, line) in file.code().lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words.any(|word| word == "unsafe") {
                findings.push(format!("{}:{}", file.path, number + 1));
            }
        }
    }
    none("`unsafe` outside UNSAFE_IN", findings);
}

#[test]
fn channels_have_bounds() {
    let mut findings = Vec::new();
    for file in sources(&["broker"], &["rs"]) {
        for (number, line) in file.code().lines().enumerate() {
            let unbounded = ["unbounded_channel", "mpsc::unbounded", "std::sync::mpsc::channel"];
            if unbounded.iter().any(|name| line.contains(name)) {
                findings.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none("queues without a bound", findings);
}

#[test]
fn tests_neither_sleep_nor_are_left_out() {
    let mut findings = Vec::new();
    for file in sources(&["broker", "plugin-sdk", "plugins", "tests"], &["rs"]) {
        let sleeping = !file.path.starts_with("broker/") && !file.path.starts_with("tests/bench/");
        for (number, line) in file.code().lines().enumerate() {
            if line.trim_start().starts_with("#[ignore") || sleeping && line.contains("::sleep(") {
                findings.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    none("tests that sleep or are ignored", findings);
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    let without = sources(&["broker", "plugin-sdk", "tests"], &["toml"])
        .into_iter()
        .filter(|file| file.path.ends_with("Cargo.toml"))
        .filter(|file| !file.text.contains("[lints]\nworkspace = true"))
        .map(|file| file.path);
    none("packages without `[lints] workspace = true`", without.collect());
}

#[test]
fn the_pages_that_everyone_reads_exist_and_are_short() {
    let mut findings = Vec::new();
    for page in ["README.md", "broker/ARCHITECTURE.md"] {
        match Source::read(Path::new(page)) {
            None => findings.push(format!("{page} is missing")),
            Some(file) => {
                let lines = file.text.lines().count();
                if lines > PAGE_LINES_MAX {
                    findings.push(format!("{page}: {lines} lines, {PAGE_LINES_MAX} at most"));
                }
            }
        }
    }
    if !root().join("broker/CHANGELOG.md").exists() {
        findings.push("broker/CHANGELOG.md is missing".to_owned());
    }
    none("pages", findings);
}
