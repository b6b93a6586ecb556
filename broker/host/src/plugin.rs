//! Loading a plugin: reading its manifest, checking it against the component, compiling it.
//! What must not live here: running a plugin.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::types::Component as ComponentType;
use wasmtime::component::{Component, Instance, InstancePre};
use wasmtime::{Store, UpdateDeadline};

use crate::engine::Engine;
use crate::limits::{COMPONENT_BYTES_MAX, HOST_CALL_BYTES_MAX};
use crate::load_error::LoadError;
use crate::manifest::{Capability, Hook, Manifest};
use crate::sections::{Binary, classify, manifest_text};
use crate::state::State;
use crate::{v1, v2};

/// The namespace of all our interfaces.
const PACKAGE: &str = "wasmqtt:plugin/";
/// The imported interfaces with the contract's types.
const TYPES: [&str; 2] = ["types", "exchanges"];
/// The exported interface with `init`.
const LIFECYCLE: &str = "lifecycle";

/// A plugin that was checked and compiled, ready to be activated any number of times.
pub struct Plugin {
    engine: Engine,
    manifest: Manifest,
    digest: String,
    component: InstancePre<State>,
    exports: v1::Exports,
}

impl Plugin {
    /// Checks and compiles a component; nothing of it is run. Takes about a tenth of a second
    /// unless the engine's code cache has it.
    ///
    /// # Errors
    /// Why this is no plugin for this broker: see [`LoadError`].
    pub fn load(engine: &Engine, bytes: &[u8]) -> Result<Arc<Self>, LoadError> {
        if bytes.len() > COMPONENT_BYTES_MAX {
            return Err(LoadError::TooLarge { bytes: bytes.len(), bytes_max: COMPONENT_BYTES_MAX });
        }
        match classify(bytes) {
            Binary::Component => {}
            Binary::CoreModule => return Err(LoadError::CoreModule),
            Binary::Other => return Err(LoadError::NotWasm),
        }
        let manifest = Manifest::parse(manifest_text(bytes)?).map_err(LoadError::Manifest)?;
        let digest = hex(&Sha256::digest(bytes));
        let component = compile(engine, bytes, &digest)?;
        let has_lifecycle = check(&component.component_type(), engine, &manifest)?;
        let incompatible = |error: wasmtime::Error| LoadError::Incompatible(format!("{error:#}"));
        let component = v1::linker(engine.wasmtime())
            .and_then(|linker| linker.instantiate_pre(&component))
            .map_err(incompatible)?;
        let exports =
            v1::Exports::find(&component, has_lifecycle, &manifest.hooks).map_err(incompatible)?;
        Ok(Arc::new(Self { engine: engine.clone(), manifest, digest, component, exports }))
    }

    /// What the plugin says about itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Hooks that the plugin takes part in.
    #[must_use]
    pub fn hooks(&self) -> &[Hook] {
        &self.manifest.hooks
    }

    /// SHA-256 of the component, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether `config` is what the plugin's schema asks for.
    ///
    /// # Errors
    /// The first place that is not, in words.
    pub fn check_config(&self, config: &serde_json::Value) -> Result<(), String> {
        self.manifest.config.check(config)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn new_store(&self, state: State) -> Store<State> {
        let mut store = Store::new(self.engine.wasmtime(), state);
        store.limiter(|state| &mut state.resources);
        store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().deadline.tick()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store
    }

    pub(crate) fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<v1::Guest> {
        let instance: Instance = self.component.instantiate(&mut *store)?;
        self.exports.load(store, &instance)
    }
}

fn compile(engine: &Engine, bytes: &[u8], digest: &str) -> Result<Component, LoadError> {
    let cached = engine.cache().and_then(|cache| cache.load(engine.wasmtime(), digest));
    if let Some(component) = cached {
        return Ok(component);
    }
    let component = Component::from_binary(engine.wasmtime(), bytes)
        .map_err(|error| LoadError::Invalid(format!("{error:#}")))?;
    if let Some(cache) = engine.cache() {
        cache.store(digest, &component);
    }
    Ok(component)
}

/// Compares what the component imports and exports with its manifest and with this host; answers
/// whether it exports `lifecycle`.
fn check(
    component: &ComponentType,
    engine: &Engine,
    manifest: &Manifest,
) -> Result<bool, LoadError> {
    for (name, _) in component.imports(engine.wasmtime()) {
        let interface = our_interface(name)?
            .ok_or_else(|| LoadError::ForeignImport { import: name.to_owned() })?;
        let capability = Capability::ALL.into_iter().find(|one| one.name() == interface);
        match capability {
            Some(capability) if !manifest.capabilities.contains(&capability) => {
                return Err(LoadError::CapabilityNotDeclared { capability });
            }
            None if !TYPES.contains(&interface) => {
                return Err(LoadError::ForeignImport { import: name.to_owned() });
            }
            Some(_) | None => {}
        }
    }
    let mut exported = Vec::new();
    for (name, _) in component.exports(engine.wasmtime()) {
        exported.extend(our_interface(name)?);
    }
    for hook in Hook::ALL {
        match (manifest.hooks.contains(&hook), exported.contains(&hook.name())) {
            (true, false) => return Err(LoadError::MissingExport { hook }),
            (false, true) => return Err(LoadError::UndeclaredExport { hook }),
            (true, true) | (false, false) => {}
        }
    }
    Ok(exported.contains(&LIFECYCLE))
}

/// The interface's name if it is one of ours, in the version that brought it.
fn our_interface(name: &str) -> Result<Option<&str>, LoadError> {
    let Some(interface) = name.strip_prefix(PACKAGE) else {
        return Ok(None);
    };
    let (interface, version) = interface.split_once('@').unwrap_or((interface, "none"));
    let host = if v2::INTERFACES.contains(&interface) { v2::VERSION } else { v1::VERSION };
    if version == host {
        return Ok(Some(interface));
    }
    Err(LoadError::AbiUnsupported { interface: name.to_owned(), wants: version.to_owned(), host })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
