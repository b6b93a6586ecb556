//! `wasmqtt-componentize CORE.wasm PLUGIN.wasm [--manifest FILE | --no-manifest]`: the last step of
//! a plugin's build. With an option it makes what the broker must refuse, for its tests, and checks
//! nothing.

use std::fs;
use std::io::Write;

use anyhow::{Context, Result, bail};
use wasmqtt_componentize::{
    Interfaces, check_manifest, componentize, embedded_manifest, interfaces,
};

const USAGE: &str = "usage: CORE.wasm PLUGIN.wasm [--manifest FILE | --no-manifest]
       --describe PLUGIN.wasm";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--describe", plugin] => describe(plugin),
        [core, plugin] => {
            let core = read(core)?;
            let manifest = embedded_manifest(&core)?;
            let component = componentize(&core, Some(&manifest))?;
            check_manifest(&manifest, &interfaces(&component)?)?;
            write(plugin, &component)
        }
        [core, plugin, "--manifest", manifest] => {
            let manifest = String::from_utf8(read(manifest)?)?;
            write(plugin, &componentize(&read(core)?, Some(&manifest))?)
        }
        [core, plugin, "--no-manifest"] => write(plugin, &componentize(&read(core)?, None)?),
        _ => bail!(USAGE),
    }
}

/// Prints what a broker reads of a plugin before it runs anything.
fn describe(plugin: &str) -> Result<()> {
    let component = read(plugin)?;
    let Interfaces { imports, exports } = interfaces(&component)?;
    let mut out = std::io::stdout().lock();
    imports.iter().try_for_each(|name| writeln!(out, "import {name}"))?;
    exports.iter().try_for_each(|name| writeln!(out, "export {name}"))?;
    write!(out, "{}", embedded_manifest(&component)?)?;
    Ok(())
}

fn read(file: &str) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {file}"))
}

fn write(file: &str, contents: &[u8]) -> Result<()> {
    fs::write(file, contents).with_context(|| format!("writing {file}"))
}
