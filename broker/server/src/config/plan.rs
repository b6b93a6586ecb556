//! A configuration with all that it names loaded and checked: what a broker starts from.
//! What must not live here: the start itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use wasmqtt_host::engine::Engine;
use wasmqtt_host::plugin::Plugin;
use wasmqtt_store::{Directory, HashPool};

use crate::certificates::{CertificateError, Certificates};
use crate::config::load::Loaded;
use crate::config::problem::{Problem, Problems};
use crate::config::schema::{Hook, Places};
use crate::config::tree::{Place, Sources};
use crate::config::{Config, PluginConfig, PluginSource, bundled};
use crate::instance::Instance;

/// All that `runtime::run` needs.
pub(crate) struct RunPlan {
    /// Valid, also together with the plugins.
    pub config: Arc<Config>,
    /// Everything is allowed; no instance, no directory.
    pub dev: bool,
    /// The locked directory; None for `--dev`.
    pub instance: Option<Instance>,
    /// `directory.db`, opened on `control`; None for `--dev`.
    pub directory: Option<Directory>,
    /// For logins and new passwords; None for `--dev`.
    pub hash_pool: Option<Arc<HashPool>>,
    /// The engine of the plugins.
    pub engine: Engine,
    /// Every plugin that an order names, by name, compiled.
    pub plugins: Arc<[PlannedPlugin]>,
    /// What listeners' TLS works with, by listener.
    pub certificates: BTreeMap<Arc<str>, Arc<Certificates>>,
    /// The control runtime.
    pub control: tokio::runtime::Runtime,
    /// To show where something stands that turns out wrong.
    pub origins: Origins,
}

/// A plugin that an order names.
#[derive(Clone)]
pub(crate) struct PlannedPlugin {
    /// The key in `Config::plugins`, where its settings are.
    pub name: Arc<str>,
    /// Compiled; has every hook that the orders want of it.
    pub plugin: Arc<Plugin>,
}

/// The texts of the configuration and what stands where.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// The texts.
    pub sources: Sources,
    /// Places in them.
    pub places: Places,
}

impl Origins {
    /// A plugin turned out wrong after loading, in its `init` for example. Shown with its place.
    pub(crate) fn plugin_failed(self, plugin: &str, error: &str, hint: Option<&str>) -> Problems {
        let mut problem = Problem::error(format!("plugin `{plugin}` does not start: {error}"));
        if let Some(place) = self.places.plugins.get(plugin) {
            problem = problem.at(place.clone(), "this plugin");
        }
        if let Some(hint) = hint {
            problem = problem.help(hint);
        }
        Problems { sources: self.sources, list: vec![problem] }
    }
}

/// Reads the files that listeners' TLS needs, and adds to the warnings of `loaded`.
pub(crate) fn load_certificates(
    loaded: &mut Loaded,
) -> Result<BTreeMap<Arc<str>, Arc<Certificates>>, Box<Problems>> {
    let mut list = Vec::new();
    let mut ready = BTreeMap::new();
    for (name, listener) in &loaded.config.listeners {
        let Some(files) = &listener.tls else { continue };
        let place = |key| loaded.places.tls.get(name).and_then(|places| places.get(key));
        match Certificates::new(files.clone()) {
            Ok((certificates, words)) => {
                for (key, word) in words {
                    loaded.warnings.push(at(Problem::warning(word), place(key), "this file"));
                }
                ready.insert(Arc::clone(name), Arc::new(certificates));
            }
            Err(CertificateError { key, message, hint }) => {
                let problem = Problem::error(format!("listener `{name}`: {message}"));
                let problem = if hint.is_empty() { problem } else { problem.help(hint) };
                list.push(at(problem, place(key), "this file"));
            }
        }
    }
    if list.is_empty() {
        Ok(ready)
    } else {
        Err(Box::new(Problems { sources: std::mem::take(&mut loaded.sources), list }))
    }
}

/// Loads every plugin that an order names, unless it is `ready`, and checks that it has the hook
/// and takes its `config`.
pub(crate) fn load_plugins(
    loaded: Loaded,
    engine: &Engine,
    ready: &[PlannedPlugin],
) -> Result<(Config, Vec<PlannedPlugin>, Origins), Box<Problems>> {
    let Loaded { config, sources, places, .. } = loaded;
    let mut list = Vec::new();
    let mut plugins = Vec::new();
    for (name, settings) in &config.plugins {
        let mut steps = places.steps.iter().filter(|step| step.plugin == *name).peekable();
        if steps.peek().is_none() {
            continue;
        }
        let place = places.plugins.get(name);
        let known = ready.iter().find(|planned| planned.name == *name);
        let plugin = known.map(|planned| Ok(Arc::clone(&planned.plugin)));
        let plugin = match plugin.unwrap_or_else(|| load_plugin(name, settings, engine)) {
            Ok(plugin) => plugin,
            Err(problem) => {
                list.push(at(problem, place, "this plugin"));
                continue;
            }
        };
        for step in steps {
            let has = plugin.hooks().iter().map(|hook| hook.name());
            if has.clone().any(|hook| hook == step.hook.name()) {
                continue;
            }
            let hooks = has.collect::<Vec<_>>().join(", ");
            let (key, hook) = (step.hook.key(), step.hook.name());
            list.push(
                Problem::error(format!(
                    "plugin `{name}` can't be in `{key}`: it has no hook `{hook}`"
                ))
                .at(step.place.clone(), "this step")
                .help(format!("its hooks: {hooks}; {}", orders_of(&plugin))),
            );
        }
        if let Err(error) = plugin.check_config(&settings.config.clone().into()) {
            let problem = Problem::error(format!("`plugins.{name}.config` is not usable: {error}"));
            let place = places.configs.get(name).or(place);
            list.push(at(problem, place, "its configuration"));
        }
        plugins.push(PlannedPlugin { name: name.clone(), plugin });
    }
    if list.is_empty() {
        Ok((config, plugins, Origins { sources, places }))
    } else {
        Err(Box::new(Problems { sources, list }))
    }
}

fn at(problem: Problem, place: Option<&Place>, label: &str) -> Problem {
    match place {
        Some(place) => problem.at(place.clone(), label),
        None => problem,
    }
}

fn orders_of(plugin: &Plugin) -> String {
    let hooks = [Hook::Authenticate, Hook::AuthExchange, Hook::Authorize, Hook::OnPublish];
    let has = |hook: &Hook| plugin.hooks().iter().any(|one| one.name() == hook.name());
    let keys: Vec<String> =
        hooks.iter().filter(|hook| has(hook)).map(|hook| format!("`{}`", hook.key())).collect();
    format!("it can be in {}", keys.join(", "))
}

fn load_plugin(
    name: &str,
    settings: &PluginConfig,
    engine: &Engine,
) -> Result<Arc<Plugin>, Problem> {
    let bytes: Cow<'static, [u8]> = match &settings.source {
        PluginSource::File(path) => Cow::Owned(read_component(path).map_err(|problem| {
            problem.help("a relative path is relative to the directory of broker.toml")
        })?),
        PluginSource::Bundled => {
            Cow::Borrowed(bundled::find(name).map_or(&[][..], |bundled| bundled.bytes))
        }
    };
    Plugin::load(engine, &bytes).map_err(|error| {
        Problem::error(format!("plugin `{name}` can't be used: {error} [{}]", error.code()))
            .help(error.hint())
    })
}

/// Reads a plugin's file.
pub(crate) fn read_component(path: &Path) -> Result<Vec<u8>, Problem> {
    let shown = path.display();
    fs::read(path).map_err(|error| {
        let kind = error.kind();
        if kind == io::ErrorKind::NotFound {
            Problem::error(format!("there is no plugin file {shown}"))
        } else if kind == io::ErrorKind::IsADirectory {
            Problem::error(format!("{shown} is a directory, not a plugin file"))
        } else {
            Problem::error(format!("can't read the plugin file {shown}: {error}"))
        }
    })
}
