//! Puts members into a JSON object without reading the others: their order, spacing and numbers
//! stay as they are. What the members mean is not known here.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member to put in.
pub(crate) struct Member<'a> {
    /// Its name, unescaped.
    pub(crate) name: &'a str,
    /// Its value as JSON text.
    pub(crate) json: &'a str,
}

/// The object with the members at its end, where they replace those of the same name; none if the
/// text is not one JSON object (RFC 8259).
pub(crate) fn splice(text: &[u8], members: &[Member<'_>]) -> Option<Vec<u8>> {
    let text = str::from_utf8(text).ok()?;
    let added = members.iter().map(|member| member.name.len() + member.json.len() + 8);
    let out = String::with_capacity(text.len() + added.sum::<usize>());
    let mut splicer = Splicer { text, members, out, separator: "{" };

    let mut json = serde_json::Deserializer::from_str(text);
    json.deserialize_map(&mut splicer).ok()?;
    json.end().ok()?;
    for member in members {
        splicer.push(&serde_json::Value::from(member.name).to_string());
        splicer.out.push(':');
        splicer.out.push_str(member.json);
    }
    splicer.out.push('}');
    Some(splicer.out.into_bytes())
}

/// Copies the members that stay, each with the spacing around it.
struct Splicer<'a> {
    text: &'a str,
    members: &'a [Member<'a>],
    out: String,
    separator: &'static str,
}

impl Splicer<'_> {
    fn push(&mut self, text: &str) {
        self.out.push_str(self.separator);
        self.out.push_str(text);
        self.separator = ",";
    }
}

#[derive(Deserialize)]
struct Name<'json>(#[serde(borrow)] Cow<'json, str>);

impl<'json> Visitor<'json> for &mut Splicer<'json> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'json>>(self, mut map: A) -> Result<(), A::Error> {
        let text = self.text;
        let mut start = text.find('{').map_or(0, |brace| brace + 1);
        while let Some((Name(name), value)) = map.next_entry::<Name<'_>, &RawValue>()? {
            // The value is a part of the text, so the distance of their addresses is its place.
            let value_start = value.get().as_ptr().addr() - text.as_ptr().addr();
            let value_end = value_start + value.get().len();
            let rest = &text[value_end..];
            // What follows is a comma or a brace, or the next step of the loop finds the error.
            let end = text.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            if !self.members.iter().any(|member| member.name == name) {
                self.push(&text[start..end]);
            }
            start = text.len().min(end + 1);
        }
        Ok(())
    }
}
