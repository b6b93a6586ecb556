//! From a file and overrides to a [`Config`], or to everything that is wrong with them.
//! What must not live here: keys and their meaning (`schema`).

use std::cell::RefCell;
use std::io;
use std::path::Path;

use crate::config::Config;
use crate::config::problem::{Problem, Problems};
use crate::config::schema::{self, Places};
use crate::config::tree::{Sources, Table};

/// A configuration, and where it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Complete and valid in itself.
    pub config: Config,
    /// The texts.
    pub sources: Sources,
    /// Where plugins and their steps stand in them.
    pub places: Places,
    /// Worth a word; the broker starts.
    pub warnings: Vec<Problem>,
}

/// Reads `file`, then lays each `key=value` of `overrides` over it.
pub(crate) fn load(file: &Path, overrides: &[String]) -> Result<Loaded, Box<Problems>> {
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    let directory = file.parent().unwrap_or(Path::new(""));
    parse(&file.display().to_string(), text, overrides, directory)
}

/// The same from a text. Relative paths in it are relative to `directory`.
pub(crate) fn parse(
    name: &str,
    text: String,
    overrides: &[String],
    directory: &Path,
) -> Result<Loaded, Box<Problems>> {
    let mut sources = Sources::default();
    let number = sources.add(name, text);
    let mut root = match Table::parse(&sources, number) {
        Ok(root) => root,
        Err(list) => return Err(Box::new(Problems { sources, list })),
    };
    let mut list = Vec::new();
    for text in overrides {
        let number = sources.add("--set", text);
        if let Err(problem) = root.set(&sources, number) {
            list.push(*problem);
        }
    }
    let found = RefCell::new(list);
    let (config, places) = schema::read(&root, directory, &found);
    let mut list = found.into_inner();
    list.sort_by(|left, right| left.order().cmp(&right.order()));
    if list.iter().all(Problem::is_warning) {
        Ok(Loaded { config, sources, places, warnings: list })
    } else {
        Err(Box::new(Problems { sources, list }))
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Box<Problems> {
    let shown = file.display();
    let kind = error.kind();
    let problem = if kind == io::ErrorKind::NotFound {
        Problem::error(format!("there is no {shown}"))
            .help("`wasmqtt create DIR` makes a directory with everything in it")
    } else if kind == io::ErrorKind::IsADirectory {
        Problem::error(format!("{shown} is a directory, not a file"))
    } else if kind == io::ErrorKind::InvalidData {
        Problem::error(format!("{shown} is not UTF-8 text"))
    } else {
        Problem::error(format!("can't read {shown}: {error}"))
    };
    Box::new(Problems::one(problem))
}

#[cfg(test)]
mod tests;
