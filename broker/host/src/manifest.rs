//! The manifest that a plugin carries: what it is, which hooks it takes part in, what it asks for.
//! What must not live here: whether the component keeps what the manifest says.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;
use wasmqtt_core::topic::TopicFilter;

use crate::limits::PREFILTER_TOPICS_MAX;
use crate::schema::Schema;

/// The custom section that holds the manifest.
pub const SECTION: &str = "wasmqtt:manifest";

/// A hook of the plugin contract.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hook {
    /// Who is this?
    Authenticate,
    /// May this client do that?
    Authorize,
    /// A message was published.
    OnPublish,
    /// Who is this, in more than one step?
    AuthExchange,
}

impl Hook {
    /// All hooks, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::Authenticate, Self::Authorize, Self::OnPublish, Self::AuthExchange];

    /// The name in manifests and in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::OnPublish => "on-publish",
            Self::AuthExchange => "auth-exchange",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Authenticate => 0,
            Self::Authorize => 1,
            Self::OnPublish => 2,
            Self::AuthExchange => 3,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A host service that a plugin may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Capability {
    /// Lines in the broker's log.
    Log,
    /// The time.
    Clock,
    /// The key-value store.
    Kv,
    /// Randomness.
    Random,
}

impl Capability {
    /// All services.
    pub const ALL: [Self; 4] = [Self::Log, Self::Clock, Self::Kv, Self::Random];

    /// The name in manifests and in the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Clock => "clock",
            Self::Kv => "kv",
            Self::Random => "random",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a plugin says about itself, checked.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// `[a-z0-9][a-z0-9-]*`.
    pub id: String,
    /// Semantic version.
    pub version: String,
    /// One line.
    pub description: String,
    /// Hooks that the plugin takes part in.
    pub hooks: Vec<Hook>,
    /// Host services that it asks for.
    pub capabilities: Vec<Capability>,
    /// Topic filters of the messages that `on-publish` wants to see.
    pub topics: Vec<TopicFilter>,
    /// Linear memory it asks for, in bytes.
    pub memory_bytes: Option<usize>,
    /// CPU time of a call that it asks for.
    pub call_cpu: Option<Duration>,
    pub(crate) config: Schema,
}

/// What is wrong with a manifest, and where in its text.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ManifestError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Text {
    manifest: Spanned<u32>,
    id: Spanned<String>,
    version: Spanned<String>,
    description: Spanned<String>,
    hooks: Vec<Spanned<String>>,
    #[serde(default)]
    capabilities: Vec<Spanned<String>>,
    on_publish: Option<Spanned<OnPublishText>>,
    #[serde(default)]
    limits: LimitsText,
    config: Option<Spanned<serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnPublishText {
    topics: Vec<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsText {
    memory_mib: Option<Spanned<u32>>,
    call_ms: Option<Spanned<u32>>,
}

/// A message and the byte range of the text that it is about.
type Fault = (Option<std::ops::Range<usize>>, String);

impl Manifest {
    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        Self::read(text).map_err(|(span, message)| {
            let offset = span.map_or(0, |span| span.start);
            let before = text.get(..offset).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            ManifestError {
                line: before.matches('\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                message,
            }
        })
    }

    fn read(text: &str) -> Result<Self, Fault> {
        let text: Text = toml::from_str(text)
            .map_err(|error| (error.span(), error.message().trim_end().to_owned()))?;
        if *text.manifest.get_ref() != 1 {
            return Err(at(&text.manifest, "this broker reads manifests of format 1".to_owned()));
        }
        check_id(&text.id)?;
        check_version(&text.version)?;
        if !(1..=200).contains(&text.description.get_ref().len()) {
            return Err(at(&text.description, "`description` takes 1 to 200 bytes".to_owned()));
        }
        let hooks = names("hook", &text.hooks, &Hook::ALL, Hook::name)?;
        let capabilities =
            names("capability", &text.capabilities, &Capability::ALL, Capability::name)?;
        let config = match &text.config {
            None => Schema::any_object(),
            Some(schema) => Schema::compile(schema.get_ref())
                .map_err(|error| at(schema, format!("`config`: {error}")))?,
        };
        Ok(Self {
            topics: topics(text.on_publish.as_ref(), hooks.contains(&Hook::OnPublish))?,
            memory_bytes: ranged("memory-mib", text.limits.memory_mib.as_ref(), 4096)?
                .map(|mib| mib as usize * (1 << 20)),
            call_cpu: ranged("call-ms", text.limits.call_ms.as_ref(), 10_000)?
                .map(|ms| Duration::from_millis(u64::from(ms))),
            id: text.id.into_inner(),
            version: text.version.into_inner(),
            description: text.description.into_inner(),
            hooks,
            capabilities,
            config,
        })
    }
}

fn at<T>(place: &Spanned<T>, message: String) -> Fault {
    (Some(place.span()), message)
}

fn check_id(id: &Spanned<String>) -> Result<(), Fault> {
    let text = id.get_ref();
    let is_valid = (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    if is_valid {
        return Ok(());
    }
    Err(at(id, "`id` takes 1 to 64 of a-z, 0-9 and `-`, and does not begin with `-`".to_owned()))
}

/// `major.minor.patch` with an optional pre-release and build [semver.org 2.0.0].
fn check_version(version: &Spanned<String>) -> Result<(), Fault> {
    let text = version.get_ref();
    let (rest, build) = text.split_once('+').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
    let (numbers, pre) = rest.split_once('-').map_or((rest, None), |(a, b)| (a, Some(b)));
    let is_number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let is_tag = |tag: &str| {
        tag.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    };
    let is_valid = text.len() <= 64
        && numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && pre.is_none_or(is_tag)
        && build.is_none_or(is_tag);
    if is_valid {
        return Ok(());
    }
    Err(at(version, "`version` takes a semantic version such as 1.0.3".to_owned()))
}

fn names<T: Copy + PartialEq>(
    kind: &str,
    asked: &[Spanned<String>],
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Vec<T>, Fault> {
    let mut found = Vec::new();
    for text in asked {
        let Some(&one) = all.iter().find(|one| name(**one) == text.get_ref()) else {
            let known: Vec<_> = all.iter().map(|one| name(*one)).collect();
            let message = format!(
                "unknown {kind} `{}`; this broker knows: {}",
                text.get_ref(),
                known.join(", ")
            );
            return Err(at(text, message));
        };
        if found.contains(&one) {
            return Err(at(text, format!("{kind} `{}` is named twice", text.get_ref())));
        }
        found.push(one);
    }
    Ok(found)
}

fn topics(
    section: Option<&Spanned<OnPublishText>>,
    has_hook: bool,
) -> Result<Vec<TopicFilter>, Fault> {
    let everything = || {
        TopicFilter::parse("#")
            .map(|filter| vec![filter])
            .map_err(|error| (None, error.to_string()))
    };
    let Some(section) = section else {
        return if has_hook { everything() } else { Ok(Vec::new()) };
    };
    if !has_hook {
        return Err(at(section, "[on-publish] needs \"on-publish\" among the hooks".to_owned()));
    }
    let topics = &section.get_ref().topics;
    if topics.is_empty() || topics.len() > PREFILTER_TOPICS_MAX {
        return Err(at(section, format!("`topics` takes 1 to {PREFILTER_TOPICS_MAX} filters")));
    }
    topics
        .iter()
        .map(|text| {
            let filter = TopicFilter::parse(text.get_ref())
                .map_err(|error| at(text, format!("`{}`: {error}", text.get_ref())))?;
            if filter.share_group().is_some() {
                return Err(at(text, "a prefilter can't be a shared subscription".to_owned()));
            }
            Ok(filter)
        })
        .collect()
}

fn ranged(name: &str, value: Option<&Spanned<u32>>, max: u32) -> Result<Option<u32>, Fault> {
    match value {
        None => Ok(None),
        Some(value) if (1..=max).contains(value.get_ref()) => Ok(Some(*value.get_ref())),
        Some(value) => Err(at(value, format!("`{name}` takes 1 to {max}"))),
    }
}
