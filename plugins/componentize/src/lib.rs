//! From the core module that rustc makes to a wasmqtt plugin: a component with its manifest at top
//! level. Compiling plugins is not done here, and nothing is run.

mod manifest;
mod sections;

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, DecodedWasm};

pub use manifest::check_manifest;

/// Name of the custom section that holds the manifest.
pub const MANIFEST_SECTION: &str = "wasmqtt:manifest";

/// Debug names: no use to the broker, and a tenth of a small plugin.
const NAMES_SECTION: &str = "component-name";

/// The manifest that `wasmqtt_plugin::export!` left in a core module, or that of a finished plugin.
///
/// # Errors
/// If there is none or more than one, or it is not text.
pub fn embedded_manifest(wasm: &[u8]) -> Result<String> {
    let manifests: Vec<&[u8]> = sections::custom(wasm, MANIFEST_SECTION)?;
    let [manifest] = manifests[..] else {
        bail!("{} manifests inside; is export! there, once?", manifests.len());
    };
    String::from_utf8(manifest.to_vec()).context("plugin.toml is not UTF-8")
}

/// Makes a component of a core module, with that manifest at top level or none.
///
/// # Errors
/// If the module is not one that `wasmqtt_plugin::export!` made.
pub fn componentize(core: &[u8], manifest: Option<&str>) -> Result<Vec<u8>> {
    let core = sections::without_custom(core, &[MANIFEST_SECTION])?;
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&core)
        .and_then(|encoder| encoder.encode())
        .context("the module can't be made a component")?;
    let mut component = sections::without_custom(&component, &[NAMES_SECTION])?;
    if let Some(manifest) = manifest {
        sections::push_custom(&mut component, MANIFEST_SECTION, manifest.as_bytes())?;
    }
    Ok(component)
}

/// Names of the interfaces that a component imports and exports, such as
/// `wasmqtt:plugin/clock@0.1.0`.
pub struct Interfaces {
    /// What the broker has to provide.
    pub imports: Vec<String>,
    /// What the broker may call.
    pub exports: Vec<String>,
}

/// Reads a component's interfaces.
///
/// # Errors
/// If the bytes are not a component.
pub fn interfaces(component: &[u8]) -> Result<Interfaces> {
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component)? else {
        bail!("not a component but a WIT package");
    };
    let world = &resolve.worlds[world];
    let name = |(key, _)| resolve.name_world_key(key);
    Ok(Interfaces {
        imports: world.imports.iter().map(name).collect(),
        exports: world.exports.iter().map(name).collect(),
    })
}
