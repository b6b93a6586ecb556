//! What an author is told at build time if `plugin.toml` and the component disagree. The broker
//! checks all of it again, and more, before it loads a plugin.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::Interfaces;

const PACKAGE: &str = "wasmqtt:plugin/";
const VERSIONS: [&str; 2] = ["@0.1.0", "@0.2.0"];
const HOOKS: [&str; 4] = ["auth-exchange", "authenticate", "authorize", "on-publish"];
const SERVICES: [&str; 4] = ["clock", "kv", "log", "random"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Manifest {
    manifest: u32,
    id: String,
    version: String,
    description: String,
    hooks: BTreeSet<String>,
    #[serde(default)]
    capabilities: BTreeSet<String>,
    on_publish: Option<OnPublish>,
    #[serde(default, rename = "limits")]
    _limits: Limits,
    #[serde(default, rename = "config")]
    _config: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnPublish {
    topics: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Limits {
    #[serde(rename = "memory-mib")]
    _memory_mib: Option<u32>,
    #[serde(rename = "call-ms")]
    _call_ms: Option<u32>,
}

/// Checks a manifest by itself and against what the component imports and exports.
///
/// # Errors
/// The first thing that the broker would refuse.
pub fn check_manifest(manifest: &str, interfaces: &Interfaces) -> Result<()> {
    let manifest: Manifest = toml::from_str(manifest).context("plugin.toml")?;
    ensure!(manifest.manifest == 1, "plugin.toml: the manifest format is 1");
    let id_ok = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ensure!(
        (1..=64).contains(&manifest.id.len())
            && manifest.id.bytes().all(id_ok)
            && !manifest.id.starts_with('-'),
        "plugin.toml: id is 1 to 64 of a-z, 0-9 and -, and does not start with -"
    );
    ensure!(manifest.version.split('.').count() >= 3, "plugin.toml: version is like 1.2.3");
    ensure!(!manifest.description.is_empty(), "plugin.toml: description is empty");

    let exported = named(&interfaces.exports, &HOOKS);
    ensure!(
        manifest.hooks == exported,
        "plugin.toml names the hooks {:?}, export! {exported:?}",
        manifest.hooks
    );
    let imported = named(&interfaces.imports, &SERVICES);
    ensure!(
        imported.is_subset(&manifest.capabilities),
        "the plugin uses {imported:?}, plugin.toml asks for the capabilities {:?}",
        manifest.capabilities
    );
    let unknown = manifest.capabilities.iter().find(|name| !SERVICES.contains(&name.as_str()));
    ensure!(unknown.is_none(), "plugin.toml: no capability is called {unknown:?}");
    if let Some(on_publish) = manifest.on_publish {
        ensure!(
            manifest.hooks.contains("on-publish"),
            "plugin.toml: [on-publish] without the hook"
        );
        ensure!(!on_publish.topics.is_empty(), "plugin.toml: on-publish.topics is empty");
    }
    Ok(())
}

/// Those of `names` that stand among the interfaces.
fn named(interfaces: &[String], names: &[&str]) -> BTreeSet<String> {
    let short = |interface: &String| {
        let name = interface.strip_prefix(PACKAGE)?;
        let name = VERSIONS.iter().find_map(|version| name.strip_suffix(version))?;
        names.contains(&name).then(|| name.to_owned())
    };
    interfaces.iter().filter_map(short).collect()
}
