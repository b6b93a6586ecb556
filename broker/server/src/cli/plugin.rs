//! `wasmqtt plugin`: the plugins of a configuration, and a file that may be one.
//! What must not live here: how a plugin is loaded.

use std::path::Path;

use wasmqtt_host::engine::Engine;
use wasmqtt_host::plugin::Plugin;

use crate::cli::failure::Failure;
use crate::cli::output::{json, say, table};
use crate::cli::session::Session;
use crate::config::plan::read_component;
use crate::service::view::{ManifestView, PluginView};

/// `plugin list`
pub(crate) async fn list(session: &Session, as_json: bool) -> Result<(), Failure> {
    let plugins: Vec<PluginView> = session.get("/v1/plugins").await?;
    if as_json {
        return json(&plugins);
    }
    if plugins.is_empty() {
        return say("no plugins in broker.toml");
    }
    let rows: Vec<[String; 5]> = plugins
        .into_iter()
        .map(|plugin| {
            let (version, hooks) = plugin.manifest.map_or_else(
                || ("-".to_owned(), "-".to_owned()),
                |manifest| (manifest.version, manifest.hooks.join(", ")),
            );
            let orders = match plugin.orders.as_slice() {
                [] => "none: never called".to_owned(),
                orders => orders.join(", "),
            };
            [plugin.name, version, hooks, orders, plugin.source]
        })
        .collect();
    say(table(["NAME", "VERSION", "HOOKS", "ORDERS", "SOURCE"], &rows))
}

/// `plugin check FILE`
pub(crate) fn check(file: &Path, as_json: bool) -> Result<(), Failure> {
    let bytes = read_component(file)?;
    let engine = Engine::new().map_err(Failure::start)?;
    let plugin = Plugin::load(&engine, &bytes).map_err(|error| {
        let text = format!("{} is not usable: {error} [{}]", file.display(), error.code());
        Failure::refused(text).hint(error.hint())
    })?;
    let view = ManifestView::from(&*plugin);
    if as_json {
        return json(&view);
    }
    let list = |items: &[String]| {
        if items.is_empty() { "none".to_owned() } else { items.join(", ") }
    };
    say(format!("{} {}: {}", view.id, view.version, view.description))?;
    say(format!("  hooks      {}", list(&view.hooks)))?;
    say(format!("  services   {}", list(&view.capabilities)))?;
    say(format!("  sha256     {}", view.sha256))
}
