//! What is no plugin, and how the operator is told; what the code cache keeps.
//! What must not live here: tests of a plugin that runs.

use wasmqtt_host::engine::{Engine, EngineError};
use wasmqtt_host::load_error::LoadError;
use wasmqtt_host::manifest::{Capability, Hook, ManifestError};
use wasmqtt_host::plugin::Plugin;

use crate::support::{COST, ENGINE, MINIMAL, component, plugin, with_manifests};

const MANIFEST: &str = "manifest = 1\nid = \"x\"\nversion = \"1.0.0\"\ndescription = \"d\"\n";

#[track_caller]
fn check(bytes: &[u8], expected: LoadError) {
    let error = Plugin::load(&ENGINE, bytes).err();
    assert_eq!(error, Some(expected));
}

/// Names of one length, so that no length in front of one changes.
#[track_caller]
fn patched(component: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = component.to_vec();
    let places: Vec<_> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, window)| *window == from.as_bytes())
        .map(|(place, _)| place)
        .collect();
    assert!(!places.is_empty(), "`{from}` does not occur");
    for place in places {
        bytes[place..place + from.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
fn a_plugin_says_what_it_is_before_it_runs() {
    let plugin = plugin(COST);
    let manifest = plugin.manifest();
    assert_eq!((manifest.id.as_str(), manifest.version.as_str()), ("cost", "0.1.0"));
    assert_eq!(plugin.hooks(), [Hook::Authenticate, Hook::Authorize, Hook::OnPublish]);
    assert_eq!(manifest.capabilities, [Capability::Clock, Capability::Kv, Capability::Log]);
    assert_eq!(plugin.digest().len(), 64);
    assert_eq!(plugin.check_config(&serde_json::json!({"mode": "kv"})), Ok(()));
    assert!(plugin.check_config(&serde_json::json!({"mode": "KV"})).is_err());
}

#[test]
fn what_is_no_component_is_refused_by_what_it_is() {
    check(b"", LoadError::NotWasm);
    check(&component("fixtures/minimal/not-wasm"), LoadError::NotWasm);
    check(&component("fixtures/minimal/core-module"), LoadError::CoreModule);
    check(&component("fixtures/minimal/no-manifest"), LoadError::NoManifest);
}

#[test]
fn a_damaged_component_is_refused_at_every_cut() {
    let bytes = component(MINIMAL);
    for length in (0..bytes.len()).step_by(97) {
        assert!(Plugin::load(&ENGINE, &bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn another_version_of_the_contract_is_refused_and_both_are_named() {
    check(
        &component("fixtures/minimal/wrong-abi"),
        LoadError::AbiUnsupported {
            interface: "wasmqtt:plugin/types@9.9.0".to_owned(),
            wants: "9.9.0".to_owned(),
            host: "0.1.0",
        },
    );
}

#[test]
fn a_manifest_has_to_keep_its_word() {
    let minimal = component(MINIMAL);
    check(
        &component("fixtures/minimal/missing-export"),
        LoadError::MissingExport { hook: Hook::OnPublish },
    );
    let no_hooks = format!("{MANIFEST}hooks = []\n");
    check(
        &with_manifests(&minimal, &[&no_hooks]),
        LoadError::UndeclaredExport { hook: Hook::Authorize },
    );
    let no_capability = format!(
        "{MANIFEST}hooks = [\"authenticate\", \"authorize\", \"on-publish\"]\n\
         capabilities = [\"log\", \"kv\"]"
    );
    check(
        &with_manifests(&component(COST), &[&no_capability]),
        LoadError::CapabilityNotDeclared { capability: Capability::Clock },
    );
    check(&with_manifests(&minimal, &[&no_hooks, &no_hooks]), LoadError::ManifestTwice);
}

#[test]
fn imports_that_are_not_ours_are_refused() {
    let minimal = component(MINIMAL);
    let foreign = patched(&minimal, "wasmqtt:plugin/types@", "wasi:filesystem/types");
    let foreign = Plugin::load(&ENGINE, &foreign).err().map(|error| error.code());
    // A name without its `@` is no valid name.
    assert_eq!(foreign, Some("plugin-invalid"));
    let foreign = patched(&minimal, "wasmqtt:plugin/types@0.1.0", "wasi:sockets/network@0.1.0");
    check(&foreign, LoadError::ForeignImport { import: "wasi:sockets/network@0.1.0".to_owned() });
    let unknown = patched(&minimal, "wasmqtt:plugin/types@0.1.0", "wasmqtt:plugin/files@0.1.0");
    check(&unknown, LoadError::ForeignImport { import: "wasmqtt:plugin/files@0.1.0".to_owned() });
}

#[test]
fn a_function_that_the_contract_does_not_have_is_refused() {
    let other = patched(&component(COST), "cache-hint.set-ttl-ms", "cache-hint.set-ttl-ns");
    let error = Plugin::load(&ENGINE, &other).err().unwrap();
    assert_eq!(error.code(), "plugin-incompatible");
    assert!(error.to_string().contains("set-ttl-ns"), "{error}");
}

#[test]
fn a_manifest_error_names_its_place() {
    let minimal = component(MINIMAL);
    let manifest = |text: &str| {
        let bytes = with_manifests(&minimal, &[text]);
        match Plugin::load(&ENGINE, &bytes) {
            Err(LoadError::Manifest(error)) => error,
            other => panic!("{:?}", other.err()),
        }
    };
    let check = |text: &str, line: usize, column: usize, message: &str| {
        let error = manifest(&format!("{MANIFEST}{text}"));
        let expected = ManifestError { line, column, message: error.message.clone() };
        assert_eq!(error, expected);
        assert!(error.message.contains(message), "{error}");
    };
    check("hooks = [\"on-pub\"]", 5, 10, "unknown hook `on-pub`; this broker knows: authenticate");
    check("hooks = [\"authorize\", \"authorize\"]", 5, 23, "named twice");
    check("hooks = []\ncolour = 1", 6, 1, "unknown field `colour`");
    check("hooks = []\n[on-publish]\ntopics = [\"#\"]", 6, 1, "needs \"on-publish\"");
    check("hooks = [\"on-publish\"]\n[on-publish]\ntopics = [\"a\", \"b/#/c\"]", 7, 16, "`b/#/c`");
    check("hooks = []\n[limits]\nmemory-mib = 0", 7, 14, "1 to 4096");
    check("hooks = []\n[config]\npattern = \"x\"", 6, 1, "keyword `pattern`");
    check("hooks = 1", 5, 9, "invalid type");
    for (text, message) in [
        (
            "manifest = 2\nid = \"x\"\nversion = \"1.0.0\"\ndescription = \"d\"\nhooks = []",
            "format 1",
        ),
        ("manifest = 1\nid = \"-\"\nversion = \"1.0.0\"\ndescription = \"d\"\nhooks = []", "`id`"),
        (
            "manifest = 1\nid = \"x\"\nversion = \"1.0\"\ndescription = \"d\"\nhooks = []",
            "semantic",
        ),
        ("manifest = 1\nid = \"x\"\nversion = \"1.0.0\"\ndescription = \"\"\nhooks = []", "200"),
        ("manifest = 1\nid = \"x\"", "missing field"),
    ] {
        let error = manifest(text);
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn every_load_error_has_a_code_and_a_hint() {
    let error = Plugin::load(&ENGINE, b"text").err().unwrap();
    assert_eq!(error.code(), "plugin-not-wasm");
    assert!(!error.hint().is_empty());
}

#[test]
fn compiled_code_is_kept_privately_and_a_damaged_file_is_compiled_anew() {
    use std::os::unix::fs::PermissionsExt;

    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("code");
    let engine = Engine::with_code_cache(&directory).unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);

    let bytes = component(MINIMAL);
    Plugin::load(&engine, &bytes).unwrap();
    let files: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
    assert_eq!(files.len(), 1);
    let path = files[0].as_ref().unwrap().path();
    assert_eq!(mode(&path), 0o600);
    let written = std::fs::read(&path).unwrap();

    for damage in [&b""[..], b"short", &written[..written.len() - 1]] {
        std::fs::write(&path, damage).unwrap();
        Plugin::load(&engine, &bytes).unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), written.len());
    }
    Plugin::load(&Engine::with_code_cache(&directory).unwrap(), &bytes).unwrap();
}

#[test]
fn a_directory_that_others_may_write_to_is_no_code_cache() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o770);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let engine = Engine::with_code_cache(directory.path());
    assert!(matches!(engine, Err(EngineError::Cache(_))));
}
