//! Why a file is no plugin for this broker: a stable code, a sentence, and what to do.
//! What must not live here: the checks.

use thiserror::Error;

use crate::manifest::{Capability, Hook, ManifestError};

/// Why a plugin was not loaded. All of it is the plugin's side to repair.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum LoadError {
    /// Not WebAssembly at all.
    #[error("the file is not WebAssembly")]
    NotWasm,
    /// WebAssembly, but a core module.
    #[error("the file is a core WebAssembly module, not a component")]
    CoreModule,
    /// More than the host reads.
    #[error("the component has {bytes} bytes; the limit is {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The binary's sections can't be read, or it does not compile.
    #[error("the component is damaged or uses what this broker's engine does not support: {0}")]
    Invalid(String),
    /// A component without our custom section.
    #[error("the component carries no manifest")]
    NoManifest,
    /// Our custom section is there more than once.
    #[error("the component carries more than one manifest")]
    ManifestTwice,
    /// The manifest can't be read.
    #[error("manifest, {0}")]
    Manifest(ManifestError),
    /// Made for another version of the contract.
    #[error(
        "the plugin wants version {wants} of the plugin contract (`{interface}`); this broker has {host}"
    )]
    AbiUnsupported {
        /// The interface as the component names it.
        interface: String,
        /// The version asked for.
        wants: String,
        /// The version that this host has.
        host: &'static str,
    },
    /// The manifest names a hook that is not there.
    #[error("the manifest names the hook `{hook}`, but the component does not export it")]
    MissingExport {
        /// The hook.
        hook: Hook,
    },
    /// A hook is there that the manifest does not name.
    #[error("the component exports the hook `{hook}`, but its manifest does not name it")]
    UndeclaredExport {
        /// The hook.
        hook: Hook,
    },
    /// An import that no plugin gets.
    #[error("the component imports `{import}`, which this broker does not provide")]
    ForeignImport {
        /// The import as the component names it.
        import: String,
    },
    /// An import that is ours, but was not asked for.
    #[error("the component uses the service `{capability}`, but its manifest does not ask for it")]
    CapabilityNotDeclared {
        /// The service.
        capability: Capability,
    },
    /// A function of an interface has other types than the contract.
    #[error("the component differs from the plugin contract: {0}")]
    Incompatible(String),
}

impl LoadError {
    /// A stable name for scripts and documentation.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotWasm => "plugin-not-wasm",
            Self::CoreModule => "plugin-core-module",
            Self::TooLarge { .. } => "plugin-too-large",
            Self::Invalid(_) => "plugin-invalid",
            Self::NoManifest => "plugin-no-manifest",
            Self::ManifestTwice => "plugin-manifest-twice",
            Self::Manifest(_) => "plugin-manifest-invalid",
            Self::AbiUnsupported { .. } => "plugin-abi-unsupported",
            Self::MissingExport { .. } => "plugin-export-missing",
            Self::UndeclaredExport { .. } => "plugin-export-undeclared",
            Self::ForeignImport { .. } => "plugin-import-unknown",
            Self::CapabilityNotDeclared { .. } => "plugin-capability-undeclared",
            Self::Incompatible(_) => "plugin-incompatible",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotWasm => "give the path of the plugin's .wasm file",
            Self::CoreModule => {
                "make a component of it (see the SDK's README), or use the plugin's released file"
            }
            Self::TooLarge { .. } => "build it in release mode and strip debug information",
            Self::Invalid(_) => {
                "get or build the file again, for the target wasm32-unknown-unknown"
            }
            Self::NoManifest | Self::ManifestTwice => {
                "embed plugin.toml once (see the SDK's README)"
            }
            Self::Manifest(_) => "correct plugin.toml there and build the plugin again",
            Self::AbiUnsupported { .. } => {
                "use a release of the plugin for this broker, or build it with this broker's SDK"
            }
            Self::MissingExport { .. } => {
                "export the hook (`wasmqtt_plugin::export!`), or remove it from `hooks` in plugin.toml"
            }
            Self::UndeclaredExport { .. } => "add the hook to `hooks` in plugin.toml",
            Self::ForeignImport { .. } => {
                "build for wasm32-unknown-unknown without WASI; plugins have no files, sockets or \
                 environment, only the services of the plugin contract"
            }
            Self::CapabilityNotDeclared { .. } => {
                "add the service to `capabilities` in plugin.toml"
            }
            Self::Incompatible(_) => "build the plugin with this broker's SDK",
        }
    }
}
