//! What goes over the admin interface: requests and answers as JSON has them.
//! What must not live here: how they are shown to a person.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasmqtt_core::access::{Actions, Effect, Subject};
use wasmqtt_store::{RuleRow, UserRow};

use crate::config::plan::PlannedPlugin;
use crate::config::{AccessStep, AuthStep, Config, PluginConfig, PluginSource};

/// What a running broker does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Of the program.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Since it was ready, seconds.
    pub uptime_seconds: u64,
    /// Threads that serve connections.
    pub workers: u16,
    /// Where it listens.
    pub listeners: Vec<ListenerView>,
    /// Names and numbers, as `connections`, `sessions`, `messages_received`, `denied`.
    pub counters: BTreeMap<Cow<'static, str>, u64>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerView {
    /// Its name in the configuration.
    pub name: String,
    /// As `mqtt://127.0.0.1:1883`.
    pub url: String,
}

/// A listener whose certificates were read anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadedView {
    /// Its name in the configuration.
    pub listener: String,
    /// Why it keeps what it had; `None`: new connections get what was read.
    pub error: Option<String>,
    /// What to do about the error.
    pub hint: Option<String>,
    /// Worth a word.
    pub warnings: Vec<String>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserView {
    /// Its name.
    pub name: String,
    /// `user`, `device` or `admin`.
    pub kind: String,
    /// Whether it may log in.
    pub enabled: bool,
    /// Names of its roles, sorted.
    pub roles: Vec<String>,
    /// When it was made, Unix seconds.
    pub created_at: i64,
}

impl From<UserRow> for UserView {
    fn from(row: UserRow) -> Self {
        Self {
            name: row.name,
            kind: row.kind.to_string(),
            enabled: row.enabled,
            roles: row.roles.iter().map(ToString::to_string).collect(),
            created_at: row.created_at,
        }
    }
}

/// A user to add. No `Debug`: it has a password.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUserRequest {
    /// Its name.
    pub name: String,
    /// `user`, `device` or `admin`.
    pub kind: String,
    /// Names of its roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Without one it can't log in by password.
    #[serde(default)]
    pub password: Option<String>,
}

/// A new password. No `Debug`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordRequest {
    /// At least one character.
    pub password: String,
}

/// What a removal leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemovedUserView {
    /// Rules that still name the user.
    pub rules_left: u64,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleView {
    /// Its number.
    pub id: i64,
    /// `allow` or `deny`.
    pub effect: String,
    /// `publish`, `subscribe` or `all`.
    pub actions: String,
    /// A Topic Filter, maybe with variables.
    pub pattern: String,
    /// `user:NAME`, `role:ROLE` or `all`.
    pub to: String,
    /// When it was made, Unix seconds.
    pub created_at: i64,
}

impl RuleView {
    /// As one line: `rule 3: allow publish devices/# to all`.
    pub(crate) fn line(&self) -> String {
        let Self { id, effect, actions, pattern, to, .. } = self;
        format!("rule {id}: {effect} {actions} {pattern} to {to}")
    }
}

impl From<RuleRow> for RuleView {
    fn from(row: RuleRow) -> Self {
        let effect = match row.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        };
        let actions = if row.actions == Actions::PUBLISH {
            "publish"
        } else if row.actions == Actions::SUBSCRIBE {
            "subscribe"
        } else {
            "all"
        };
        let to = match &row.subject {
            Subject::User(name) => format!("user:{name}"),
            Subject::Role(name) => format!("role:{name}"),
            Subject::All => "all".to_owned(),
        };
        Self {
            id: row.id.0,
            effect: effect.to_owned(),
            actions: actions.to_owned(),
            pattern: row.pattern,
            to,
            created_at: row.created_at,
        }
    }
}

/// A rule to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRuleRequest {
    /// `allow` or `deny`.
    pub effect: String,
    /// `publish`, `subscribe` or `all`.
    pub actions: String,
    /// A Topic Filter, maybe with variables.
    pub pattern: String,
    /// `user:NAME`, `role:ROLE` or `all`.
    pub to: String,
}

/// The number of a new rule, or of the same one that was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddedRule {
    /// Its number.
    pub id: i64,
}

/// What `acl check` asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckRequest {
    /// None: anonymous.
    pub user: Option<String>,
    /// The Client Identifier.
    pub client_id: String,
    /// `publish` or `subscribe`.
    pub action: String,
    /// A Topic Name, or a Topic Filter for `subscribe`.
    pub topic: String,
}

/// What `acl check` finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckAnswer {
    /// The decision.
    pub allowed: bool,
    /// `rule 3: …`, `plugin own-topics`, or `nothing: default deny`.
    pub decided_by: String,
    /// Each that was asked, in order, and what it said.
    pub steps: Vec<CheckStep>,
    /// What is unusual about the question.
    pub notes: Vec<String>,
}

/// One that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckStep {
    /// `rules` or `plugin:NAME`.
    pub step: String,
    /// `allow`, `deny` or `next`.
    pub answer: String,
    /// Why.
    pub reason: Option<String>,
}

/// A plugin of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PluginView {
    /// Its name in the configuration.
    pub name: String,
    /// A path, or `bundled`.
    pub source: String,
    /// The orders that it is in, as `auth.order`; empty: it is never called.
    pub orders: Vec<String>,
    /// From its manifest; None: it was not loaded.
    pub manifest: Option<ManifestView>,
}

/// What a plugin says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestView {
    /// Its own name.
    pub id: String,
    /// Of the plugin.
    pub version: String,
    /// One line.
    pub description: String,
    /// As `authorize`.
    pub hooks: Vec<String>,
    /// As `log`.
    pub capabilities: Vec<String>,
    /// SHA-256 of the component.
    pub sha256: String,
}

impl From<&wasmqtt_host::plugin::Plugin> for ManifestView {
    fn from(plugin: &wasmqtt_host::plugin::Plugin) -> Self {
        let manifest = plugin.manifest();
        Self {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
            hooks: manifest.hooks.iter().map(|hook| hook.name().to_owned()).collect(),
            capabilities: manifest.capabilities.iter().map(|one| one.name().to_owned()).collect(),
            sha256: plugin.digest().to_owned(),
        }
    }
}

/// A plugin as an operator sees it.
pub(crate) fn plugin(
    name: &str,
    plugin: &PluginConfig,
    planned: Option<&PlannedPlugin>,
    config: &Config,
) -> PluginView {
    let named = |other: &str| other == name;
    let mut orders = Vec::new();
    if config.auth_order.iter().any(|step| matches!(step, AuthStep::Plugin(other) if named(other)))
    {
        orders.push("auth.order".to_owned());
    }
    if config.auth_exchange.iter().any(|other| named(other)) {
        orders.push("auth.exchange".to_owned());
    }
    if config
        .access_order
        .iter()
        .any(|step| matches!(step, AccessStep::Plugin(other) if named(other)))
    {
        orders.push("access.order".to_owned());
    }
    if config.publish_order.iter().any(|other| named(other)) {
        orders.push("publish.order".to_owned());
    }
    let source = match &plugin.source {
        PluginSource::File(path) => path.display().to_string(),
        PluginSource::Bundled => "bundled".to_owned(),
    };
    let manifest = planned.map(|planned| ManifestView::from(&*planned.plugin));
    PluginView { name: name.to_owned(), source, orders, manifest }
}
