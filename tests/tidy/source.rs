//! The files of the repository as text, and just enough of a lexer to tell code from comment.
//! What must not live here: rules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One text file; its path is relative to the top level.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The top level of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Names at the top level: those under version control, or, without git, those that are there.
pub(crate) fn top_level() -> Vec<String> {
    let git = Command::new("git").args(["ls-files"]).current_dir(root()).output();
    if let Ok(output) = git
        && output.status.success()
    {
        let listed = String::from_utf8(output.stdout).unwrap();
        let mut names: Vec<String> =
            listed.lines().map(|path| path.split('/').next().unwrap().to_owned()).collect();
        names.dedup();
        return names;
    }
    let entries = fs::read_dir(root()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "target").collect()
}

/// The text files under those folders whose names end so; no ending means all text files.
pub(crate) fn sources(folders: &[&str], endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        walk(Path::new(folder), endings, &mut found);
    }
    assert!(!found.is_empty(), "nothing under {folders:?}");
    found
}

fn walk(folder: &Path, endings: &[&str], found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return;
    };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names {
        if ["target", ".git", "node_modules", "__pycache__"].contains(&name.as_str()) {
            continue;
        }
        let path = folder.join(&name);
        if root().join(&path).is_dir() {
            walk(&path, endings, found);
        } else if endings.is_empty() || endings.iter().any(|end| name.ends_with(&format!(".{end}")))
        {
            found.extend(Source::read(&path));
        }
    }
}

impl Source {
    /// `None` when there is no such file, or it is no text.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(root().join(path)).ok()?;
        let path = path.strip_prefix(".").unwrap_or(path).to_str().unwrap().to_owned();
        Some(Self { path, text })
    }

    /// The text with the insides of comments and strings blanked out; lines stay where they are.
    pub(crate) fn code(&self) -> String {
        let bytes = self.text.as_bytes();
        let mut code = bytes.to_vec();
        let mut at = 0;
        while at < bytes.len() {
            let end = match &bytes[at..] {
                [b'/', b'/', ..] => at + length_until(&bytes[at..], b"\n"),
                [b'/', b'*', ..] => at + length_until(&bytes[at..], b"*/") + 2,
                [b'r', b'#', b'"', ..] => at + 3 + length_until(&bytes[at + 3..], b"\"#") + 2,
                [b'\'', b'"', b'\'', ..] => at + 3,
                [b'"', rest @ ..] => at + 1 + string_length(rest),
                _ => {
                    at += 1;
                    continue;
                }
            };
            let end = end.min(bytes.len());
            for byte in &mut code[at..end] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            at = end;
        }
        String::from_utf8_lossy(&code).into_owned()
    }

    /// Lines and module names of all `crate::…` paths in the code.
    pub(crate) fn crate_paths(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in self.code().lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let before = line[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                    continue;
                }
                let word = |c: char| c.is_alphanumeric() || c == '_';
                let rest = &line[at + "crate::".len()..];
                let name = rest.split(|c| !word(c)).next().unwrap().to_owned();
                found.push((number + 1, name));
            }
        }
        found
    }

    /// Lines and names of our own packages among the dependencies of a manifest.
    pub(crate) fn our_dependencies(&self) -> Vec<(usize, String)> {
        let mut within = false;
        let mut found = Vec::new();
        for (number, line) in self.text.lines().enumerate() {
            if line.starts_with('[') {
                within = line.contains("dependencies");
            }
            let name = line.split(['.', '=', ' ']).next().unwrap();
            if within && name.starts_with("wasmqtt") {
                found.push((number + 1, name.to_owned()));
            }
        }
        found
    }
}

fn length_until(bytes: &[u8], end: &[u8]) -> usize {
    bytes.windows(end.len()).position(|window| window == end).unwrap_or(bytes.len())
}

/// Length of what follows an opening quote, with its closing one.
fn string_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

#[test]
fn comments_and_strings_are_no_code() {
    let source = Source {
        path: String::new(),
        text: "use crate::a; // crate::b\nlet s = \"crate::c \\\" \"; /* crate::d */ crate::e::f(\n'\"', crate::g)"
            .to_owned(),
    };
    let names: Vec<_> = source.crate_paths();
    assert_eq!(names, [(1, "a".into()), (2, "e".into()), (3, "g".into())]);
}
