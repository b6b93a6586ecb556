//! The plugins that are inside this binary.
//! What must not live here: how a plugin is loaded.

/// A component in this binary.
pub(crate) struct Bundled {
    /// The name of its section in `[plugins]`.
    pub name: &'static str,
    /// The component.
    pub bytes: &'static [u8],
}

/// All of them, by name.
static BUNDLED: [Bundled; 3] = [
    Bundled {
        name: "json-stamp",
        bytes: include_bytes!("../../../../plugins/json-stamp/json-stamp.wasm"),
    },
    Bundled {
        name: "own-topics",
        bytes: include_bytes!("../../../../plugins/own-topics/own-topics.wasm"),
    },
    Bundled {
        name: "token-auth",
        bytes: include_bytes!("../../../../plugins/token-auth/token-auth.wasm"),
    },
];

/// The plugin with that name.
pub(crate) fn find(name: &str) -> Option<&'static Bundled> {
    BUNDLED.iter().find(|bundled| bundled.name == name)
}

/// Every name.
pub(crate) fn names() -> Vec<&'static str> {
    BUNDLED.iter().map(|bundled| bundled.name).collect()
}
