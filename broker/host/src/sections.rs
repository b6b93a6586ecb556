//! The outermost layer of a WebAssembly binary: what kind it is, and its custom sections.
//! What must not live here: validation, which is wasmtime's.

use crate::limits::MANIFEST_BYTES_MAX;
use crate::load_error::LoadError;
use crate::manifest::SECTION;

const MAGIC: &[u8] = b"\0asm";
const HEAD_BYTES: usize = 8;
const CUSTOM_SECTION: u8 = 0;

/// What the first eight bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Binary {
    Component,
    CoreModule,
    Other,
}

pub(crate) fn classify(bytes: &[u8]) -> Binary {
    // Four bytes of magic, two of version, two of layer: 0 is a core module, 1 a component.
    match bytes.get(..HEAD_BYTES) {
        Some([magic @ .., _, _, 1, 0]) if magic == MAGIC => Binary::Component,
        Some([magic @ .., _, _, 0, 0]) if magic == MAGIC => Binary::CoreModule,
        _ => Binary::Other,
    }
}

/// The manifest of a component; sections of nested modules and components don't count.
///
/// # Errors
/// There is none, more than one, it is too long or not UTF-8; or the sections can't be read.
pub(crate) fn manifest_text(component: &[u8]) -> Result<&str, LoadError> {
    let damaged = || LoadError::Invalid("a section is longer than the file".to_owned());
    let mut rest = component.get(HEAD_BYTES..).ok_or_else(damaged)?;
    let mut found = None;
    while let Some((&id, after_id)) = rest.split_first() {
        let (content, after) = sized(after_id).ok_or_else(damaged)?;
        if id == CUSTOM_SECTION {
            let (name, text) = sized(content).ok_or_else(damaged)?;
            if name == SECTION.as_bytes() && found.replace(text).is_some() {
                return Err(LoadError::ManifestTwice);
            }
        }
        rest = after;
    }
    let text = found.ok_or(LoadError::NoManifest)?;
    if text.len() > MANIFEST_BYTES_MAX {
        let bytes = text.len();
        return Err(LoadError::Invalid(format!("a manifest of {bytes} bytes is too long")));
    }
    std::str::from_utf8(text)
        .map_err(|_| LoadError::Invalid("the manifest is not UTF-8".to_owned()))
}

/// Splits off what a length in front says.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = leb128_u32(bytes)?;
    rest.split_at_checked(length as usize)
}

fn leb128_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Binary, classify, manifest_text};
    use crate::load_error::LoadError;
    use crate::manifest::SECTION;

    const HEAD: &[u8] = b"\0asm\x0d\0\x01\0";

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        let mut section = vec![id, u8::try_from(content.len()).unwrap()];
        section.extend(content);
        section
    }

    fn named(name: &str, text: &[u8]) -> Vec<u8> {
        let mut content = vec![u8::try_from(name.len()).unwrap()];
        content.extend(name.as_bytes());
        content.extend(text);
        section(0, &content)
    }

    #[track_caller]
    fn check(sections: &[Vec<u8>], expected: Result<&str, LoadError>) {
        let bytes = [HEAD, &sections.concat()].concat();
        assert_eq!(manifest_text(&bytes), expected);
    }

    #[test]
    fn the_head_tells_components_from_modules() {
        assert_eq!(classify(HEAD), Binary::Component);
        assert_eq!(classify(b"\0asm\x01\0\0\0rest"), Binary::CoreModule);
        assert_eq!(classify(b"\0asm"), Binary::Other);
        assert_eq!(classify(b"#!/bin/sh"), Binary::Other);
        assert_eq!(classify(b""), Binary::Other);
    }

    #[test]
    fn one_manifest_is_found_between_other_sections() {
        let manifest = named(SECTION, b"text");
        let nested = section(4, &manifest);
        check(&[named("name", b"x"), manifest.clone(), section(1, b"")], Ok("text"));
        check(&[nested], Err(LoadError::NoManifest));
        check(&[manifest.clone(), manifest], Err(LoadError::ManifestTwice));
        check(
            &[named(SECTION, b"\xff")],
            Err(LoadError::Invalid("the manifest is not UTF-8".to_owned())),
        );
    }

    #[test]
    fn every_cut_of_a_component_is_refused_or_read() {
        let bytes = [HEAD, &named("name", b"x"), &named(SECTION, b"text")].concat();
        for length in 0..bytes.len() {
            assert!(manifest_text(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
