//! The part of JSON Schema (draft 2020-12) that plugins describe their configuration with.
//! What must not live here: other uses of JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::limits::SCHEMA_DEPTH_MAX;

/// A compiled schema. Keywords that are not listed at [`KEYWORDS`] are refused, so that no plugin
/// believes in a check that nobody makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    types: Option<Vec<Type>>,
    properties: BTreeMap<String, Schema>,
    required: Vec<String>,
    is_closed: bool,
    items: Option<Box<Schema>>,
    allowed: Option<Vec<Value>>,
    length: Bounds<u64>,
    number: Bounds<f64>,
    count: Bounds<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bounds<T> {
    min: Option<T>,
    max: Option<T>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Type {
    Null,
    Boolean,
    Object,
    Array,
    Number,
    Integer,
    String,
}

const TYPES: [(&str, Type); 7] = [
    ("null", Type::Null),
    ("boolean", Type::Boolean),
    ("object", Type::Object),
    ("array", Type::Array),
    ("number", Type::Number),
    ("integer", Type::Integer),
    ("string", Type::String),
];

const KEYWORDS: &str = "type, properties, required, additionalProperties, items, enum, minLength, \
    maxLength, minimum, maximum, minItems, maxItems, default, title, description";

impl Schema {
    /// What stands for an absent schema.
    pub(crate) fn any_object() -> Self {
        Self { types: Some(vec![Type::Object]), ..Self::default() }
    }

    /// # Errors
    /// A keyword or value that is not understood, in words with its place.
    pub(crate) fn compile(schema: &Value) -> Result<Self, String> {
        Self::compile_at(schema, &mut Vec::new())
    }

    fn compile_at<'a>(schema: &'a Value, path: &mut Vec<&'a str>) -> Result<Self, String> {
        let place = |path: &[&str]| match path {
            [] => String::new(),
            _ => format!("{}: ", path.join(".")),
        };
        if path.len() > SCHEMA_DEPTH_MAX {
            return Err(format!("schemas go {SCHEMA_DEPTH_MAX} levels deep"));
        }
        let object =
            schema.as_object().ok_or_else(|| format!("{}a schema is a table", place(path)))?;
        let mut compiled = Self::default();
        for (keyword, value) in object {
            let understood = compiled.keyword(keyword, value, path)?;
            if !understood {
                return Err(format!(
                    "{}keyword `{keyword}` with that value is not understood; known are {KEYWORDS}",
                    place(path)
                ));
            }
        }
        Ok(compiled)
    }

    /// `false`: not understood.
    fn keyword<'a>(
        &mut self,
        keyword: &str,
        value: &'a Value,
        path: &mut Vec<&'a str>,
    ) -> Result<bool, String> {
        let understood = match keyword {
            "type" => is_some(&mut self.types, types(value)),
            "properties" => {
                let Some(properties) = value.as_object() else {
                    return Ok(false);
                };
                for (name, schema) in properties {
                    path.push(name);
                    self.properties.insert(name.clone(), Self::compile_at(schema, path)?);
                    path.pop();
                }
                true
            }
            "required" => match strings(value) {
                Some(names) => {
                    self.required = names;
                    true
                }
                None => false,
            },
            "additionalProperties" => match value.as_bool() {
                Some(are_allowed) => {
                    self.is_closed = !are_allowed;
                    true
                }
                None => false,
            },
            "items" => {
                path.push("[]");
                self.items = Some(Box::new(Self::compile_at(value, path)?));
                path.pop();
                true
            }
            "enum" => is_some(&mut self.allowed, value.as_array().cloned()),
            "minLength" => is_some(&mut self.length.min, value.as_u64()),
            "maxLength" => is_some(&mut self.length.max, value.as_u64()),
            "minItems" => is_some(&mut self.count.min, value.as_u64()),
            "maxItems" => is_some(&mut self.count.max, value.as_u64()),
            "minimum" => is_some(&mut self.number.min, value.as_f64()),
            "maximum" => is_some(&mut self.number.max, value.as_f64()),
            "default" => true,
            "title" | "description" => value.is_string(),
            _ => false,
        };
        Ok(understood)
    }

    /// # Errors
    /// The first place where `config` is not as the schema says, in words.
    pub(crate) fn check(&self, config: &Value) -> Result<(), String> {
        self.check_at(config, &mut Vec::new())
    }

    fn check_at(&self, value: &Value, path: &mut Vec<String>) -> Result<(), String> {
        if let Err(message) = self.check_here(value) {
            return Err(match path.as_slice() {
                [] => message,
                _ => format!("`{}`: {message}", path.join(".")),
            });
        }
        if let (Value::Array(items), Some(schema)) = (value, &self.items) {
            for (index, item) in items.iter().enumerate() {
                path.push(index.to_string());
                schema.check_at(item, path)?;
                path.pop();
            }
        }
        if let Value::Object(object) = value {
            for (name, schema) in &self.properties {
                if let Some(value) = object.get(name) {
                    path.push(name.clone());
                    schema.check_at(value, path)?;
                    path.pop();
                }
            }
        }
        Ok(())
    }

    fn check_here(&self, value: &Value) -> Result<(), String> {
        if let Some(types) = &self.types
            && !types.iter().any(|one| one.has(value))
        {
            let names: Vec<_> = types.iter().map(|one| one.name()).collect();
            return Err(format!("takes {}", names.join(" or ")));
        }
        if let Some(allowed) = &self.allowed
            && !allowed.contains(value)
        {
            let allowed: Vec<_> = allowed.iter().map(Value::to_string).collect();
            return Err(format!("takes one of {}", allowed.join(", ")));
        }
        match value {
            Value::String(text) => self.length.check(text.chars().count() as u64, "characters"),
            Value::Array(items) => self.count.check(items.len() as u64, "items"),
            Value::Number(number) => number.as_f64().map_or(Ok(()), |n| self.number.check(n, "")),
            Value::Object(object) => self.check_names(object),
            Value::Null | Value::Bool(_) => Ok(()),
        }
    }

    fn check_names(&self, object: &Map<String, Value>) -> Result<(), String> {
        if let Some(name) = self.required.iter().find(|name| !object.contains_key(*name)) {
            return Err(format!("`{name}` is missing"));
        }
        let unknown = object.keys().find(|name| !self.properties.contains_key(*name));
        match unknown {
            Some(name) if self.is_closed => {
                let known: Vec<_> = self.properties.keys().map(String::as_str).collect();
                Err(format!("`{name}` is unknown; there is {}", known.join(", ")))
            }
            _ => Ok(()),
        }
    }
}

impl<T: PartialOrd + std::fmt::Display> Bounds<T> {
    fn check(&self, value: T, unit: &str) -> Result<(), String> {
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        match self {
            Self { min: Some(min), .. } if value < *min => {
                Err(format!("takes at least {min}{unit}"))
            }
            Self { max: Some(max), .. } if value > *max => {
                Err(format!("takes at most {max}{unit}"))
            }
            _ => Ok(()),
        }
    }
}

impl Type {
    fn has(self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::Number => value.is_number(),
            // A number without a fraction is an integer, however it is written.
            Self::Integer => {
                value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
            }
            Self::String => value.is_string(),
        }
    }

    fn name(self) -> &'static str {
        TYPES.iter().find(|(_, one)| *one == self).map_or("", |(name, _)| name)
    }
}

fn types(value: &Value) -> Option<Vec<Type>> {
    let names = match value.as_str() {
        Some(name) => vec![name.to_owned()],
        None => strings(value)?,
    };
    names
        .iter()
        .map(|name| TYPES.iter().find(|(known, _)| known == name).map(|(_, one)| *one))
        .collect()
}

fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn is_some<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    *place = value;
    place.is_some()
}

#[cfg(test)]
mod tests {
    use super::Schema;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(schema: Value, config: Value, expected: Result<(), &str>) {
        let schema = Schema::compile(&schema).unwrap();
        assert_eq!(schema.check(&config), expected.map_err(str::to_owned));
    }

    #[test]
    fn a_configuration_is_checked_and_the_error_names_its_place() {
        let schema = json!({
            "type": "object", "required": ["key"], "additionalProperties": false,
            "properties": {
                "key": {"type": "string", "minLength": 3, "maxLength": 5, "title": "t"},
                "list": {"type": "array", "maxItems": 2, "items": {"type": ["integer", "null"]}},
                "mode": {"enum": ["a", "b"], "default": "a"},
                "n": {"type": "number", "minimum": 0, "maximum": 1.5},
            },
        });
        let full = json!({"key": "abcd", "list": [1, null], "mode": "b", "n": 1.5});
        check(schema.clone(), full, Ok(()));
        for (config, message) in [
            (json!([]), "takes object"),
            (json!({}), "`key` is missing"),
            (json!({"key": "abc", "kex": 1}), "`kex` is unknown; there is key, list, mode, n"),
            (json!({"key": 1}), "`key`: takes string"),
            (json!({"key": "ab"}), "`key`: takes at least 3 characters"),
            (json!({"key": "abcdef"}), "`key`: takes at most 5 characters"),
            (json!({"key": "abc", "list": [1.5]}), "`list.0`: takes integer or null"),
            (json!({"key": "abc", "list": [1, 2, 3]}), "`list`: takes at most 2 items"),
            (json!({"key": "abc", "mode": "c"}), "`mode`: takes one of \"a\", \"b\""),
            (json!({"key": "abc", "n": 2}), "`n`: takes at most 1.5"),
        ] {
            check(schema.clone(), config, Err(message));
        }
    }

    #[test]
    fn a_keyword_that_nobody_checks_is_refused() {
        let schema = json!({"properties": {"a": {"type": "string", "pattern": "^x"}}});
        let error = Schema::compile(&schema).unwrap_err();
        assert!(error.starts_with("a: keyword `pattern`"), "{error}");
        assert!(Schema::compile(&json!({"type": "int"})).is_err());
        assert!(Schema::compile(&json!({"additionalProperties": {}})).is_err());
    }
}
