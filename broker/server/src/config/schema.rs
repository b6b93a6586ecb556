//! Which keys `broker.toml` has and what they mean: a tree in, a [`Config`] out.
//! What must not live here: files, plugins' bytes, the look of a message.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;

use wasmqtt_core::topic::TopicFilter;

use crate::config::problem::Problem;
use crate::config::read::{Found, Reader, Text, suggestion};
use crate::config::tree::{Place, Table, Value};
use crate::config::{
    AccessStep, AuthStep, Config, Limits, LogConfig, LogFormat, LogLevel, OnFault,
    PUBLISH_PLUGINS_MAX, PluginConfig, PluginSource, QUEUE_POLICIES, bundled, cores, topics,
};

mod listeners;
mod shared;

/// The hooks that an order of the configuration calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hook {
    /// `auth.order`
    Authenticate,
    /// `auth.exchange`
    AuthExchange,
    /// `access.order`
    Authorize,
    /// `publish.order`
    OnPublish,
}

impl Hook {
    /// The key that names it.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Authenticate => "auth.order",
            Self::AuthExchange => "auth.exchange",
            Self::Authorize => "access.order",
            Self::OnPublish => "publish.order",
        }
    }

    /// As plugin authors know it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::AuthExchange => "auth-exchange",
            Self::Authorize => "authorize",
            Self::OnPublish => "on-publish",
        }
    }
}

/// A plugin in an order.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Which order.
    pub hook: Hook,
    /// A key of `Config::plugins`.
    pub plugin: Arc<str>,
    /// Where it stands.
    pub place: Place,
}

/// Where things stand that can turn out wrong after reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Plugins in orders.
    pub steps: Vec<Step>,
    /// The sections of plugins: where their source is named, else their name.
    pub plugins: BTreeMap<Arc<str>, Place>,
    /// Their `config`, where there is one.
    pub configs: BTreeMap<Arc<str>, Place>,
    /// What listeners' `tls` says, by listener and key.
    pub tls: BTreeMap<Arc<str>, BTreeMap<&'static str, Place>>,
}

/// Reads everything; what is wrong is in `found`, and the result is of use only without errors.
pub(crate) fn read(root: &Table, directory: &Path, found: &Found) -> (Config, Places) {
    let mut reader = Reader::new(String::new(), root, found);
    let mut places = Places::default();
    let mut config = Config {
        listeners: listeners::read(&mut reader, directory, &mut places),
        ..Config::default()
    };
    if let Some(mut section) = reader.section("auth") {
        if let Some(texts) = section.strings("order", "[\"password\"]") {
            config.auth_order = order(&section, Hook::Authenticate, &texts, &mut places);
        }
        if let Some(texts) = section.strings("exchange", "[\"plugin:mine\"]") {
            config.auth_exchange = order(&section, Hook::AuthExchange, &texts, &mut places);
        }
        section.finish();
    }
    if let Some(mut section) = reader.section("access") {
        if let Some(texts) = section.strings("order", "[\"rules\"]") {
            config.access_order = order(&section, Hook::Authorize, &texts, &mut places);
        }
        section.finish();
    }
    if let Some(mut section) = reader.section("publish") {
        if let Some(texts) = section.strings("order", "[\"plugin:json-stamp\"]") {
            config.publish_order = order(&section, Hook::OnPublish, &texts, &mut places);
        }
        section.finish();
    }
    config.plugins = plugins(&mut reader, directory, &mut places);
    check_steps(&reader, &config, &places);
    config.topics = topics::read(&mut reader);
    config.shared = shared::read(&mut reader);
    if let Some(section) = reader.section("limits") {
        config.limits = limits(section);
    }
    if let Some(section) = reader.section("workers") {
        config.workers = workers(section);
    }
    if let Some(section) = reader.section("log") {
        config.log = log(section);
    }
    reader.finish();
    (config, places)
}

/// Steps that one order knows, and what each order does with a step it can take.
trait IntoStep: Sized {
    const BUILT_IN: &'static [&'static str];
    fn built_in(text: &str) -> Option<Self>;
    fn plugin(name: Arc<str>) -> Self;
}

impl IntoStep for AuthStep {
    const BUILT_IN: &'static [&'static str] = &["password", "anonymous"];
    fn built_in(text: &str) -> Option<Self> {
        match text {
            "password" => Some(Self::Password),
            "anonymous" => Some(Self::Anonymous),
            _ => None,
        }
    }
    fn plugin(name: Arc<str>) -> Self {
        Self::Plugin(name)
    }
}

impl IntoStep for AccessStep {
    const BUILT_IN: &'static [&'static str] = &["rules"];
    fn built_in(text: &str) -> Option<Self> {
        (text == "rules").then_some(Self::Rules)
    }
    fn plugin(name: Arc<str>) -> Self {
        Self::Plugin(name)
    }
}

impl IntoStep for Arc<str> {
    const BUILT_IN: &'static [&'static str] = &[];
    fn built_in(_: &str) -> Option<Self> {
        None
    }
    fn plugin(name: Arc<str>) -> Self {
        name
    }
}

fn order<S: IntoStep>(
    section: &Reader<'_>,
    hook: Hook,
    texts: &[Text<'_>],
    places: &mut Places,
) -> Vec<S> {
    let key = hook.key();
    let mut steps = Vec::with_capacity(texts.len());
    for (number, (text, place)) in texts.iter().enumerate() {
        if texts.iter().take(number).any(|(earlier, _)| earlier == text) {
            section.report(
                Problem::error(format!("\"{text}\" stands twice in `{key}`"))
                    .at((*place).clone(), "the second one"),
            );
        } else if let Some(name) = text.strip_prefix("plugin:") {
            let plugin: Arc<str> = name.into();
            let place = (*place).clone();
            places.steps.push(Step { hook, plugin: plugin.clone(), place });
            steps.push(S::plugin(plugin));
        } else if let Some(step) = S::built_in(text) {
            steps.push(step);
        } else {
            let help = if S::BUILT_IN.is_empty() {
                format!("plugins are named as \"plugin:{text}\"")
            } else {
                let known = suggestion(text, S::BUILT_IN, "known steps");
                format!("{known}, and plugins as \"plugin:NAME\"")
            };
            section.report(
                Problem::error(format!("`{key}` knows no step \"{text}\""))
                    .at((*place).clone(), "not a known step")
                    .help(help),
            );
        }
    }
    if let Some((_, place)) = texts.get(PUBLISH_PLUGINS_MAX) {
        section.report(
            Problem::error(format!("`{key}` can have at most {PUBLISH_PLUGINS_MAX} steps"))
                .at((*place).clone(), "one too many"),
        );
    }
    if texts.is_empty() && hook == Hook::Authenticate {
        section.report(
            Problem::warning("`auth.order` is empty: nobody can connect")
                .help("order = [\"password\"] lets in the users of directory.db"),
        );
    }
    steps
}

fn plugins(
    reader: &mut Reader<'_>,
    directory: &Path,
    places: &mut Places,
) -> BTreeMap<Arc<str>, PluginConfig> {
    let mut plugins = BTreeMap::new();
    for (name, place, mut section) in reader.named("plugins") {
        let name: Arc<str> = name.into();
        let mut here = place.clone();
        let source = plugin_source(&mut section, &name, directory, &mut here);
        let config = section.table("config").map(Table::to_json).unwrap_or_default();
        let steps: Vec<&Step> = places.steps.iter().filter(|step| step.plugin == name).collect();
        let publishes = steps.iter().any(|step| step.hook == Hook::OnPublish);
        if !steps.is_empty() && !publishes {
            refuse_publish_keys(&section, &name);
        }
        let on_fault = section
            .choice("on_fault", &[("refuse", OnFault::Refuse), ("pass", OnFault::Pass)])
            .unwrap_or_default();
        let topics = topics(&mut section);
        if steps.is_empty() {
            section.report(
                Problem::warning(format!(
                    "plugin `{name}` is not in any order: it is never called"
                ))
                .at(place.clone(), "this plugin")
                .help(format!(
                    "add \"plugin:{name}\" to `auth.order`, `auth.exchange`, `access.order` or \
                     `publish.order`"
                )),
            );
        }
        section.finish();
        places.plugins.insert(name.clone(), here);
        if let Some(source) = source {
            plugins.insert(name, PluginConfig { source, config, on_fault, topics });
        }
    }
    plugins
}

/// What only on-publish knows is a mistake elsewhere; `on_fault = "refuse"` is true everywhere.
fn refuse_publish_keys(section: &Reader<'_>, name: &str) {
    let refuses = |value: &Value| matches!(value, Value::String(text) if text == "refuse");
    for key in ["on_fault", "topics"] {
        let Some(place) = section.place_of(key) else {
            continue;
        };
        if section.peek(key).is_some_and(refuses) {
            continue;
        }
        section.report(
            Problem::error(format!("`{key}` of plugin `{name}` has no meaning here"))
                .at(place, "only for on-publish")
                .help(
                    "it is for plugins in `publish.order`; a fault in authentication or access \
                     always denies",
                ),
        );
    }
}

/// `file` or `bundled`; exactly one of them.
fn plugin_source(
    section: &mut Reader<'_>,
    name: &str,
    directory: &Path,
    here: &mut Place,
) -> Option<PluginSource> {
    let file = section.string("file", "\"plugins/mine.wasm\"");
    let bundled_place = section.place_of("bundled");
    let is_bundled = section.boolean("bundled");
    if bundled_place.is_some() && is_bundled.is_none() {
        return None;
    }
    let is_bundled = is_bundled.unwrap_or(false);
    if let Some(place) = file.map(|(_, place)| place).or(bundled_place.as_ref()) {
        *here = place.clone();
    }
    match (file, is_bundled) {
        (Some((path, _)), false) if !path.is_empty() => {
            Some(PluginSource::File(directory.join(path)))
        }
        (None, true) if bundled::find(name).is_some() => Some(PluginSource::Bundled),
        (None, true) => {
            section.report(
                Problem::error(format!("no plugin `{name}` is bundled"))
                    .at(here.clone(), "this plugin")
                    .help(suggestion(name, &bundled::names(), "bundled plugins")),
            );
            None
        }
        (Some(_), true) => {
            section.report(
                Problem::error(format!("plugin `{name}` has two sources"))
                    .at(here.clone(), "one of them")
                    .help("keep `file` or `bundled = true`, not both"),
            );
            None
        }
        (Some(_), false) | (None, false) => {
            // A `file` of the wrong type was told already.
            if file.is_some() || section.place_of("file").is_none() {
                section.report(
                    Problem::error(format!("plugin `{name}` has no source"))
                        .at(here.clone(), "this plugin")
                        .help("add `file = \"plugins/mine.wasm\"` or `bundled = true`"),
                );
            }
            None
        }
    }
}

fn topics(section: &mut Reader<'_>) -> Option<Vec<TopicFilter>> {
    let texts = section.strings("topics", "[\"devices/#\"]")?;
    let mut filters = Vec::with_capacity(texts.len());
    for (text, place) in texts {
        match TopicFilter::parse(text) {
            Ok(filter) => filters.push(filter),
            Err(error) => section.report(
                Problem::error(format!("\"{text}\" is not a topic filter: {error}"))
                    .at(place.clone(), "this filter")
                    .help("write it like \"devices/+/state\" or \"devices/#\""),
            ),
        }
    }
    Some(filters)
}

/// Every plugin in an order has a section.
fn check_steps(reader: &Reader<'_>, config: &Config, places: &Places) {
    let known: Vec<&str> = places.plugins.keys().map(AsRef::as_ref).collect();
    for step in &places.steps {
        if config.plugins.contains_key(&step.plugin) || places.plugins.contains_key(&step.plugin) {
            continue;
        }
        let name = &step.plugin;
        let help = if bundled::find(name).is_some() {
            format!("add a section:\n[plugins.{name}]\nbundled = true")
        } else if known.is_empty() {
            format!("add a section:\n[plugins.{name}]\nfile = \"plugins/{name}.wasm\"")
        } else {
            suggestion(name, &known, "plugins with a section")
        };
        reader.report(
            Problem::error(format!("plugin `{name}` in `{}` has no section", step.hook.key()))
                .at(step.place.clone(), "this plugin")
                .help(help),
        );
    }
}

fn limits(mut section: Reader<'_>) -> Limits {
    let mut limits = Limits::default();
    // Field and key have one name: a key is never read into another's field.
    macro_rules! read {
        ($($field:ident: $bounds:expr;)*) => {
            $(if let Some(value) = section.integer(stringify!($field), $bounds) {
                limits.$field = value;
            })*
        };
    }
    read! {
        // The largest packet that MQTT has [MQTT-1.5.5].
        packet_bytes_max: 256..=268_435_460;
        queue_messages_max: 1..=u32::MAX;
        queue_bytes_max: 1_024..=1 << 40;
        subscriptions_max: 1..=10_000_000;
        sessions_max: 1..=100_000_000;
        session_expiry_seconds_max: 0..=u32::MAX;
        keep_alive_seconds_max: 0..=u16::MAX;
        delayed_messages_max: 0..=10_000_000;
        delayed_bytes_max: 0..=1 << 40;
        delay_seconds_max: 0..=4_294_967;
        retained_messages_max: 0..=u32::MAX;
        retained_bytes_max: 0..=1 << 44;
        inflight_max: 1..=u16::MAX;
        receive_maximum: 1..=u16::MAX;
        topic_aliases_max: 0..=1_024;
        connect_timeout_seconds: 1..=u16::MAX;
        write_timeout_seconds: 1..=u16::MAX;
        frame_timeout_seconds: 1..=u16::MAX;
    }
    if let Some(policy) = section.choice("queue_policy", QUEUE_POLICIES) {
        limits.queue_policy = policy;
    }
    section.finish();
    limits
}

fn workers(mut section: Reader<'_>) -> NonZeroU16 {
    const MOST: u16 = 1_024;
    let count: Option<u16> = match section.peek("count") {
        Some(Value::String(_)) => section.choice("count", &[("auto", ())]).and(None),
        _ => section.integer("count", 1..=MOST),
    };
    section.finish();
    count.and_then(NonZeroU16::new).unwrap_or_else(cores)
}

fn log(mut section: Reader<'_>) -> LogConfig {
    let levels = [
        ("info", LogLevel::Info),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let formats = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
    let config = LogConfig {
        level: section.choice("level", &levels).unwrap_or_default(),
        format: section.choice("format", &formats).unwrap_or_default(),
    };
    section.finish();
    config
}
