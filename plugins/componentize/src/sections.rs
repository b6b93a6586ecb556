//! The sections of a wasm binary, module or component, at top level: find, drop and add custom
//! ones. What the other sections hold is not looked into.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

const HEADER_BYTES: usize = 8;
const CUSTOM: u8 = 0;

struct Section<'wasm> {
    /// From the id to the end of the contents.
    range: Range<usize>,
    /// Name and contents of a custom section.
    custom: Option<(&'wasm str, &'wasm [u8])>,
}

/// Contents of the custom sections of that name.
pub(crate) fn custom<'wasm>(wasm: &'wasm [u8], name: &str) -> Result<Vec<&'wasm [u8]>> {
    let custom = sections(wasm)?.into_iter().filter_map(|section| section.custom);
    Ok(custom.filter(|(found, _)| *found == name).map(|(_, contents)| contents).collect())
}

/// The binary without the custom sections of those names.
pub(crate) fn without_custom(wasm: &[u8], names: &[&str]) -> Result<Vec<u8>> {
    let mut kept = wasm[..HEADER_BYTES.min(wasm.len())].to_vec();
    for section in sections(wasm)? {
        if !section.custom.is_some_and(|(name, _)| names.contains(&name)) {
            kept.extend_from_slice(&wasm[section.range]);
        }
    }
    Ok(kept)
}

/// Appends a custom section.
pub(crate) fn push_custom(wasm: &mut Vec<u8>, name: &str, contents: &[u8]) -> Result<()> {
    let mut section = leb128(name.len())?;
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(contents);
    wasm.push(CUSTOM);
    wasm.extend(leb128(section.len())?);
    wasm.extend(section);
    Ok(())
}

fn sections(wasm: &[u8]) -> Result<Vec<Section<'_>>> {
    ensure!(wasm.len() >= HEADER_BYTES && wasm.starts_with(b"\0asm"), "not a wasm binary");
    let mut found = Vec::new();
    let mut at = HEADER_BYTES;
    while at < wasm.len() {
        let id = wasm[at];
        let (length, start) = read_leb128(wasm, at + 1)?;
        let contents = start
            .checked_add(length)
            .and_then(|end| wasm.get(start..end))
            .context("a section ends after the end of the file")?;
        let custom = match id {
            CUSTOM => Some(split_name(contents)?),
            _ => None,
        };
        found.push(Section { range: at..start + length, custom });
        at = start + length;
    }
    Ok(found)
}

fn split_name(contents: &[u8]) -> Result<(&str, &[u8])> {
    let (length, start) = read_leb128(contents, 0)?;
    let (name, rest) =
        contents[start..].split_at_checked(length).context("a custom section's name is cut")?;
    Ok((str::from_utf8(name).context("a custom section's name is not UTF-8")?, rest))
}

/// The number at `at` and where it ends.
fn read_leb128(bytes: &[u8], at: usize) -> Result<(usize, usize)> {
    let mut value: usize = 0;
    for (index, byte) in bytes.iter().skip(at).take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, at + index + 1));
        }
    }
    anyhow::bail!("a length is cut or longer than 32 bits")
}

fn leb128(value: usize) -> Result<Vec<u8>> {
    let mut rest = u32::try_from(value).context("longer than 4 GiB")?;
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            bytes.push(low & 0x7f);
            return Ok(bytes);
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_section_comes_back_as_it_went_in() {
        let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
        let long = vec![7; 300];
        push_custom(&mut wasm, "other", b"x").expect("fits");
        push_custom(&mut wasm, "mine", &long).expect("fits");
        assert_eq!(custom(&wasm, "mine").expect("well-formed"), [&long[..]]);
        let rest = without_custom(&wasm, &["mine"]).expect("well-formed");
        assert_eq!(custom(&rest, "other").expect("well-formed"), [b"x"]);
        assert!(custom(&rest, "mine").expect("well-formed").is_empty());
    }

    #[test]
    fn a_cut_file_is_an_error() {
        let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
        push_custom(&mut wasm, "mine", b"contents").expect("fits");
        for length in (0..8).chain(9..wasm.len()) {
            assert!(sections(&wasm[..length]).is_err(), "{length} bytes");
        }
    }
}
