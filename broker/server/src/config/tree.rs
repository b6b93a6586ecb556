//! A configuration as a tree of values that know where they were written: the file, or a `--set`.
//! What must not live here: which keys exist and what they mean.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::Problem;

/// A text that values were read from.
#[derive(Debug)]
pub(crate) struct Source {
    /// A path, or `--set`.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// Every text of one configuration; a [`Place`] names one by its number.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

impl Sources {
    /// Adds a text and gives its number.
    pub(crate) fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> usize {
        self.0.push(Source { name: name.into(), text: text.into() });
        self.0.len() - 1
    }

    /// The text with that number.
    pub(crate) fn get(&self, number: usize) -> Option<&Source> {
        self.0.get(number)
    }
}

/// Bytes of a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    source: usize,
    start: usize,
    end: usize,
}

impl Place {
    pub(crate) fn new(source: usize, span: Range<usize>) -> Self {
        Self { source, start: span.start, end: span.end.max(span.start) }
    }

    /// The number in [`Sources`].
    pub(crate) const fn source(&self) -> usize {
        self.source
    }

    /// Bytes from the start of the source.
    pub(crate) const fn span(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where the value stands.
    pub place: Place,
    /// The value.
    pub value: Value,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// `"text"`
    String(String),
    /// `12`; `None`: does not fit into 64 bits.
    Integer(Option<i64>),
    /// `1.5`
    Float(f64),
    /// `true`
    Boolean(bool),
    /// `2026-01-01`
    Datetime(String),
    /// `[ … ]`
    Array(Vec<Node>),
    /// `{ … }` or `[name]`
    Table(Table),
}

impl Value {
    /// What it is, for "expected …, found …".
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a decimal number",
            Self::Boolean(_) => "true or false",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }

    /// The same value without places, for a plugin.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::String(text) | Self::Datetime(text) => Json::from(text.as_str()),
            Self::Integer(number) => Json::from(*number),
            Self::Float(number) => Json::from(*number),
            Self::Boolean(is) => Json::from(*is),
            Self::Array(items) => items.iter().map(|item| item.value.to_json()).collect(),
            Self::Table(table) => Json::Object(table.to_json()),
        }
    }
}

/// The value of one key.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the key stands.
    pub key: Place,
    /// The value.
    pub node: Node,
}

/// A TOML table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(pub BTreeMap<String, Entry>);

impl Table {
    /// The same table without places, for a plugin.
    pub(crate) fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        self.0.iter().map(|(key, entry)| (key.clone(), entry.node.value.to_json())).collect()
    }

    /// Reads a TOML text that is `sources[number]`.
    pub(crate) fn parse(sources: &Sources, number: usize) -> Result<Self, Vec<Problem>> {
        let text = sources.get(number).map_or("", |source| source.text.as_str());
        match DeTable::parse(text) {
            Ok(table) => Ok(convert_table(number, 0, table.get_ref())),
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                let mut message = error.message().replace('\n', ", ");
                if message.is_empty() {
                    message = "not TOML".to_owned();
                }
                Err(vec![
                    Problem::error(format!("not valid TOML: {message}"))
                        .at(Place::new(number, span), "here")
                        .help("text values stand in quotes: bind = \"127.0.0.1:1883\""),
                ])
            }
        }
    }

    /// Puts the override `sources[number]`, `key.key=value`, over what is there.
    pub(crate) fn set(&mut self, sources: &Sources, number: usize) -> Result<(), Box<Problem>> {
        let text = sources.get(number).map_or("", |source| source.text.as_str());
        let Some((path, value)) = text.split_once('=') else {
            return Err(Box::new(
                Problem::error("an override needs a key and a value")
                    .at(Place::new(number, 0..text.len()), "no `=` here")
                    .help("write --set listeners.mqtt.bind=127.0.0.1:2883"),
            ));
        };
        let node = override_value(number, path.len() + 1, value);
        let mut keys = Vec::new();
        let mut at = 0;
        for key in path.split('.') {
            let place = Place::new(number, at..at + key.len());
            at += key.len() + 1;
            if key.trim().is_empty() {
                return Err(Box::new(
                    Problem::error("a key of the override is empty")
                        .at(place, "nothing here")
                        .help("write --set listeners.mqtt.bind=127.0.0.1:2883"),
                ));
            }
            keys.push((key.trim().to_owned(), place));
        }
        self.put(keys.into_iter().peekable(), node);
        Ok(())
    }

    fn put(
        &mut self,
        mut keys: std::iter::Peekable<std::vec::IntoIter<(String, Place)>>,
        node: Node,
    ) {
        let Some((key, place)) = keys.next() else {
            return;
        };
        if keys.peek().is_none() {
            self.0.insert(key, Entry { key: place, node });
            return;
        }
        let entry = self.0.entry(key).or_insert_with(|| Entry {
            key: place.clone(),
            node: Node { place: place.clone(), value: Value::Table(Self::default()) },
        });
        if !matches!(entry.node.value, Value::Table(_)) {
            *entry = Entry {
                key: place.clone(),
                node: Node { place, value: Value::Table(Self::default()) },
            };
        }
        if let Value::Table(table) = &mut entry.node.value {
            table.put(keys, node);
        }
    }
}

/// A TOML value where it is one, the text itself where it is not: no quotes needed in a shell.
fn override_value(number: usize, offset: usize, text: &str) -> Node {
    const PREFIX: &str = "v=";
    let place = Place::new(number, offset..offset + text.len());
    let line = format!("{PREFIX}{text}");
    let parsed = DeTable::parse(&line).ok().and_then(|table| {
        let mut entries = table.get_ref().iter();
        let value = entries.next().map(|(_, value)| value.clone());
        value.filter(|_| entries.next().is_none())
    });
    match parsed {
        Some(value) => convert(number, offset.wrapping_sub(PREFIX.len()), &value),
        None => Node { place, value: Value::String(text.trim().to_owned()) },
    }
}

fn convert_table(source: usize, offset: usize, table: &DeTable<'_>) -> Table {
    let entries = table.iter().map(|(key, value)| {
        let place = moved(source, offset, key.span());
        (
            key.get_ref().clone().into_owned(),
            Entry { key: place, node: convert(source, offset, value) },
        )
    });
    Table(entries.collect())
}

fn convert(source: usize, offset: usize, value: &Spanned<DeValue<'_>>) -> Node {
    let place = moved(source, offset, value.span());
    let value = match value.get_ref() {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(is) => Value::Boolean(*is),
        DeValue::Datetime(date) => Value::Datetime(date.to_string()),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| convert(source, offset, item)).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(source, offset, table)),
    };
    Node { place, value }
}

/// `offset` may be "minus two" in two's complement: a value that was parsed behind a prefix.
fn moved(source: usize, offset: usize, span: Range<usize>) -> Place {
    Place::new(source, span.start.wrapping_add(offset)..span.end.wrapping_add(offset))
}
