//! Typed reading of a table: each key is asked for once, what nobody asked for is unknown.
//! What must not live here: which keys exist.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::config::problem::Problem;
use crate::config::tree::{Entry, Node, Place, Table, Value};

/// Where every reader of one configuration puts what it found wrong.
pub(crate) type Found = RefCell<Vec<Problem>>;

/// Reads one table.
pub(crate) struct Reader<'t> {
    /// `listeners.mqtt`; empty for the whole file.
    path: String,
    table: &'t Table,
    known: Vec<&'static str>,
    found: &'t Found,
}

/// A string and where it stands.
pub(crate) type Text<'t> = (&'t str, &'t Place);

impl<'t> Reader<'t> {
    pub(crate) const fn new(path: String, table: &'t Table, found: &'t Found) -> Self {
        Self { path, table, known: Vec::new(), found }
    }

    /// Notes a problem.
    pub(crate) fn report(&self, problem: Problem) {
        self.found.borrow_mut().push(problem);
    }

    /// The entry itself, unread.
    pub(crate) fn entry(&mut self, key: &'static str) -> Option<&'t Entry> {
        self.known.push(key);
        self.table.0.get(key)
    }

    /// The value itself, for keys that may have more than one type.
    pub(crate) fn peek(&self, key: &str) -> Option<&'t Value> {
        self.table.0.get(key).map(|entry| &entry.node.value)
    }

    /// Where a key's value stands, if it is there.
    pub(crate) fn place_of(&self, key: &str) -> Option<Place> {
        self.table.0.get(key).map(|entry| entry.node.place.clone())
    }

    /// A string.
    pub(crate) fn string(&mut self, key: &'static str, like: &str) -> Option<Text<'t>> {
        let node = &self.entry(key)?.node;
        let Value::String(text) = &node.value else {
            return self.wrong_kind(key, node, &format!("a string like {like}"));
        };
        Some((text, &node.place))
    }

    /// A string that `parse` understands; `expected` says what it should have been.
    pub(crate) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        like: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let (text, place) = self.string(key, like)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                let name = self.name(key);
                self.report(
                    Problem::error(format!("`{name}` is not usable: {error}"))
                        .at(place.clone(), "this value")
                        .help(format!("write it like {like}")),
                );
                None
            }
        }
    }

    /// A string out of a few.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let like = choices.first().map_or(String::new(), |(text, _)| format!("\"{text}\""));
        let (text, place) = self.string(key, &like)?;
        if let Some((_, value)) = choices.iter().find(|(choice, _)| *choice == text) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
        let name = self.name(key);
        self.report(
            Problem::error(format!("`{name}` can't be \"{text}\""))
                .at(place.clone(), "not one of the choices")
                .help(suggestion(text, &names, "choices")),
        );
        None
    }

    /// A whole number within bounds.
    pub(crate) fn integer<T>(&mut self, key: &'static str, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let node = &self.entry(key)?.node;
        let Value::Integer(number) = &node.value else {
            return self.wrong_kind(key, node, "a whole number");
        };
        let value = number.and_then(|number| T::try_from(number).ok());
        if let Some(value) = value.filter(|value| bounds.contains(value)) {
            return Some(value);
        }
        let name = self.name(key);
        self.report(
            Problem::error(format!("`{name}` is out of range"))
                .at(node.place.clone(), "this number")
                .help(format!("it can be {} to {}", bounds.start(), bounds.end())),
        );
        None
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = &self.entry(key)?.node;
        let Value::Boolean(is) = node.value else {
            return self.wrong_kind(key, node, "true or false");
        };
        Some(is)
    }

    /// A list of strings.
    pub(crate) fn strings(&mut self, key: &'static str, like: &str) -> Option<Vec<Text<'t>>> {
        let node = &self.entry(key)?.node;
        let expected = format!("a list of strings like {like}");
        let Value::Array(items) = &node.value else {
            return self.wrong_kind(key, node, &expected);
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let Value::String(text) = &item.value else {
                return self.wrong_kind(key, item, &expected);
            };
            texts.push((text.as_str(), &item.place));
        }
        Some(texts)
    }

    /// A table.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<&'t Table> {
        let node = &self.entry(key)?.node;
        let Value::Table(table) = &node.value else {
            return self.wrong_kind(key, node, "a table");
        };
        Some(table)
    }

    /// A table with a reader of its own.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Self> {
        let table = self.table(key)?;
        Some(Self::new(self.name(key), table, self.found))
    }

    /// A table of tables, keyed by a name that the operator chose.
    pub(crate) fn named(&mut self, key: &'static str) -> Vec<(&'t str, &'t Place, Self)> {
        let Some(table) = self.table(key) else {
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(table.0.len());
        for (name, entry) in &table.0 {
            let path = format!("{key}.{name}");
            if !is_name(name) {
                self.report(
                    Problem::error(format!("`{name}` can't be a name"))
                        .at(entry.key.clone(), "this name")
                        .help("names are 1 to 64 of a-z, 0-9, `-` and `_`, and start with a letter or digit"),
                );
            }
            if let Value::Table(inner) = &entry.node.value {
                sections.push((name.as_str(), &entry.key, Self::new(path, inner, self.found)));
            } else {
                let kind = entry.node.value.kind();
                self.report(
                    Problem::error(format!("`{path}` must be a table, found {kind}"))
                        .at(entry.node.place.clone(), "this value")
                        .help(format!("write a section: [{path}]")),
                );
            }
        }
        sections
    }

    /// A list of tables: `[[key]]`.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<(&'t Place, Self)> {
        let Some(node) = self.entry(key).map(|entry| &entry.node) else {
            return Vec::new();
        };
        let path = self.name(key);
        let expected = format!("a list of tables: [[{path}]]");
        let Value::Array(items) = &node.value else {
            let _: Option<()> = self.wrong_kind(key, node, &expected);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            if let Value::Table(table) = &item.value {
                tables.push((&item.place, Self::new(path.clone(), table, self.found)));
            } else {
                let _: Option<()> = self.wrong_kind(key, item, &expected);
            }
        }
        tables
    }

    /// Notes every key that nobody asked for.
    pub(crate) fn finish(self) {
        for (key, entry) in &self.table.0 {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let message = if self.path.is_empty() {
                format!("unknown key `{key}`")
            } else {
                format!("unknown key `{key}` in [{}]", self.path)
            };
            self.report(
                Problem::error(message).at(entry.key.clone(), "not a known key").help(suggestion(
                    key,
                    &self.known,
                    "known keys",
                )),
            );
        }
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn wrong_kind<T>(&self, key: &str, node: &Node, expected: &str) -> Option<T> {
        let (name, found) = (self.name(key), node.value.kind());
        self.report(
            Problem::error(format!("`{name}` must be {expected}, found {found}"))
                .at(node.place.clone(), "this value"),
        );
        None
    }
}

/// A name for a listener or a plugin.
pub(crate) fn is_name(name: &str) -> bool {
    let inner =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with(['-', '_'])
}

/// "did you mean `x`? Known keys: …"
pub(crate) fn suggestion(text: &str, known: &[&str], what: &str) -> String {
    let close = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(text, candidate), candidate))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    let mut sorted = known.to_vec();
    sorted.sort_unstable();
    let all = sorted.join(", ");
    match close {
        Some((_, candidate)) => format!("did you mean `{candidate}`? {what}: {all}"),
        None => format!("{what}: {all}"),
    }
}
