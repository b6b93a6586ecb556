//! `wasmqtt run`: from arguments to a plan for the runtime.
//! What must not live here: the runtime.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmqtt_host::engine::Engine;
use wasmqtt_host::manifest::Hook;
use wasmqtt_host::plugin::Plugin;
use wasmqtt_store::{Directory, HashPool, limits};

use crate::cli::arguments::Run;
use crate::cli::create::{Next, make};
use crate::cli::failure::Failure;
use crate::cli::output::note;
use crate::config::Config;
use crate::config::listener::DEFAULT_ADDRESS;
use crate::config::load::{Loaded, load, parse};
use crate::config::plan::{
    PlannedPlugin, RunPlan, load_certificates, load_plugins, read_component,
};
use crate::config::{AuthStep, template};
use crate::instance::{Holder, Instance, InstanceError, Layout, LockState, probe};
use crate::{logging, runtime};

/// `run DIR` or `run --dev`, until the broker ends.
pub(crate) fn run(run: Run, directory: Option<PathBuf>, as_json: bool) -> Result<(), Failure> {
    let plan = if run.dev { plan_dev(&run)? } else { plan_directory(run, directory, as_json)? };
    runtime::run(plan).map_err(Failure::from_start)
}

fn plan_directory(run: Run, directory: Option<PathBuf>, as_json: bool) -> Result<RunPlan, Failure> {
    let root = run.root.or(directory).ok_or_else(|| {
        Failure::start("which broker? Name its directory: wasmqtt run DIR")
            .hint("a throw-away broker needs none: wasmqtt run --dev")
    })?;
    let layout = Layout::new(&root);
    let control = control_runtime()?;
    let created = match probe(&layout) {
        Ok(LockState::Broker(pid)) => {
            return Err(InstanceError::LockedByBroker { directory: root, pid }.into());
        }
        Err(InstanceError::Missing(_) | InstanceError::NotABroker(_)) if run.create => {
            let text = template::broker_toml(DEFAULT_ADDRESS);
            let loaded = parse("broker.toml", text, &run.set, &root)?;
            let binds = loaded.config.listeners.values().filter_map(|one| one.bind.address());
            let bind = binds.into_iter().next().unwrap_or(DEFAULT_ADDRESS);
            Some(control.block_on(make(&root, bind, Next::Try, as_json))?)
        }
        Err(error) => return Err(error.into()),
        Ok(LockState::Free | LockState::Command(_)) => None,
    };
    let mut loaded = load(&layout.broker_toml(), &run.set)?;
    let certificates = load_certificates(&mut loaded)?;
    start_logging(&loaded)?;
    let instance = match created {
        Some(mut instance) => {
            instance.become_broker()?;
            instance
        }
        None => Instance::open(&root, Holder::Broker)?,
    };
    let engine = Engine::with_code_cache(&layout.code_cache()).map_err(Failure::start)?;
    let (config, plugins, origins) = load_plugins(loaded, &engine, &[])?;
    let directory = control.block_on(Directory::open(&layout.directory_db()))?;
    let hash_pool = HashPool::new(HashPool::threads_default(), limits::HASH_QUEUE_MAX)
        .map_err(|error| Failure::start(format!("can't start hashing threads: {error}")))?;
    Ok(RunPlan {
        config: Arc::new(config),
        dev: false,
        instance: Some(instance),
        directory: Some(directory),
        hash_pool: Some(Arc::new(hash_pool)),
        engine,
        plugins: plugins.into(),
        certificates,
        control,
        origins,
    })
}

fn plan_dev(run: &Run) -> Result<RunPlan, Failure> {
    let engine = Engine::new().map_err(Failure::start)?;
    let mut plugins = Vec::new();
    for file in &run.plugin {
        plugins.push((load_file(file, &engine)?, file.as_path()));
    }
    for (number, (plugin, _)) in plugins.iter().enumerate() {
        if plugins.iter().take(number).any(|(earlier, _)| earlier.name == plugin.name) {
            return Err(Failure::start(format!("two plugins have the id {}", plugin.name)));
        }
    }
    let mut loaded = parse("--dev", dev_toml(run, &plugins), &run.set, Path::new(""))?;
    check_dev(&loaded.config)?;
    let certificates = load_certificates(&mut loaded)?;
    start_logging(&loaded)?;
    let plugins: Vec<PlannedPlugin> = plugins.into_iter().map(|(plugin, _)| plugin).collect();
    let (config, plugins, origins) = load_plugins(loaded, &engine, &plugins)?;
    note(
        "!! wasmqtt --dev: no passwords, everything is allowed, nothing is kept.\n\
         !! For trying out on this machine. A real broker: wasmqtt run DIR --create",
    );
    Ok(RunPlan {
        config: Arc::new(config),
        dev: true,
        instance: None,
        directory: None,
        hash_pool: None,
        engine,
        plugins: plugins.into(),
        certificates,
        control: control_runtime()?,
        origins,
    })
}

fn load_file(file: &Path, engine: &Engine) -> Result<PlannedPlugin, Failure> {
    let bytes = read_component(file)?;
    let plugin = Plugin::load(engine, &bytes).map_err(|error| {
        let text = format!("plugin {} can't be used: {error} [{}]", file.display(), error.code());
        Failure::start(text).hint(error.hint())
    })?;
    Ok(PlannedPlugin { name: plugin.manifest().id.as_str().into(), plugin })
}

/// The `broker.toml` that `--dev` stands for, so that `--set` and errors work as ever.
fn dev_toml(run: &Run, plugins: &[(PlannedPlugin, &Path)]) -> String {
    let with = |hook: Hook, last: &[&str]| {
        let named = plugins.iter().filter(|(plugin, _)| plugin.plugin.hooks().contains(&hook));
        let mut steps: Vec<String> =
            named.map(|(plugin, _)| format!("\"plugin:{}\"", plugin.name)).collect();
        steps.extend(last.iter().map(|step| format!("\"{step}\"")));
        steps.join(", ")
    };
    let orders = [
        ("auth", "order", with(Hook::Authenticate, &["anonymous"])),
        ("auth", "exchange", with(Hook::AuthExchange, &[])),
        ("access", "order", with(Hook::Authorize, &["rules"])),
        ("publish", "order", with(Hook::OnPublish, &[])),
    ];
    let mut text = String::new();
    // Writing to a String can't fail.
    for (section, key, steps) in orders {
        let _ = writeln!(text, "{section}.{key} = [{steps}]");
    }
    let _ = writeln!(text, "[listeners.mqtt]\nbind = \"127.0.0.1:{}\"", run.port);
    if let Some(workers) = run.workers {
        let _ = writeln!(text, "[workers]\ncount = {workers}");
    }
    for (plugin, file) in plugins {
        let file = toml::Value::from(file.display().to_string());
        let _ = writeln!(text, "[plugins.{}]\nfile = {file}", plugin.name);
    }
    text
}

/// What `--dev` promises, `--set` does not break.
fn check_dev(config: &Config) -> Result<(), Failure> {
    for (name, listener) in &config.listeners {
        if listener.bind.address().is_some_and(|address| !address.ip().is_loopback()) {
            let error = format!(
                "--dev listens on loopback only, not on {} (listener {name})",
                listener.bind
            );
            return Err(Failure::start(error).hint("a real broker: wasmqtt run DIR --create"));
        }
    }
    if config.auth_order.contains(&AuthStep::Password) {
        return Err(Failure::start("--dev has no users: \"password\" can't be in `auth.order`")
            .hint("a real broker: wasmqtt run DIR --create"));
    }
    Ok(())
}

fn start_logging(loaded: &Loaded) -> Result<(), Failure> {
    logging::start(loaded.config.log).map_err(Failure::from_start)?;
    for warning in &loaded.warnings {
        note(warning.render(&loaded.sources, false).trim_end());
    }
    Ok(())
}

/// For the directory, passwords, plugins' slow calls and the admin interface.
fn control_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start threads: {error}")))
}
