//! Puts members into a JSON object without reading the others: their order, spacing and numbers
//! stay as they are. What the members mean is not known here.

use serde::de::IgnoredAny;

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
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let object = text.trim_start_matches(WHITESPACE);
    let inside = object
        .strip_prefix('{')?
        .trim_end_matches(WHITESPACE)
        .strip_suffix('}')?;

    let added = members
        .iter()
        .map(|member| member.name.len() + member.json.len() + 8);
    let mut spliced = String::with_capacity(text.len() + added.sum::<usize>());
    spliced.push('{');
    let mut separator = "";
    for kept in Segments(inside).filter(|segment| !is_one_of(segment, members)) {
        spliced.push_str(separator);
        spliced.push_str(kept);
        separator = ",";
    }
    for member in members {
        spliced.push_str(separator);
        spliced.push_str(&serde_json::Value::from(member.name).to_string());
        spliced.push(':');
        spliced.push_str(member.json);
        separator = ",";
    }
    spliced.push('}');
    Some(spliced.into_bytes())
}

/// What JSON calls whitespace, which is less than what Unicode does.
const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The members of a valid object's inside, each with the spacing around it.
struct Segments<'json>(&'json str);

impl<'json> Iterator for Segments<'json> {
    type Item = &'json str;

    fn next(&mut self) -> Option<&'json str> {
        if self.0.trim_start_matches(WHITESPACE).is_empty() {
            return None;
        }
        let end = end_of_member(self.0.as_bytes());
        let (segment, rest) = self.0.split_at(end);
        self.0 = rest.strip_prefix(',').unwrap_or(rest);
        Some(segment)
    }
}

/// Where the first comma is that stands in no string, array or inner object, or else the end.
fn end_of_member(json: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at = end_of_string(json, at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    json.len()
}

/// Where the string that opens at `open` closes.
fn end_of_string(json: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while json[at] != b'"' {
        at += if json[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// True if the segment's name is that of one of the members, however it is escaped.
fn is_one_of(segment: &str, members: &[Member<'_>]) -> bool {
    let segment = segment.trim_start_matches(WHITESPACE);
    let quoted = &segment[..=end_of_string(segment.as_bytes(), 0)];
    let plain = &quoted[1..quoted.len() - 1];
    if !plain.contains('\\') {
        return members.iter().any(|member| member.name == plain);
    }
    // A name with half a surrogate pair is no text, so it is no member's name either.
    serde_json::from_str::<String>(quoted)
        .is_ok_and(|name| members.iter().any(|member| member.name == name))
}
