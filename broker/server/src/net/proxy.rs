//! The header by which a proxy says whom it speaks for: the PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//! What must not live here: which peers are believed (`opening`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ntex::codec::Decoder;
use ntex::util::{Buf, BytesMut};

/// The longest header of version 1, line break included.
const V1_BYTES_MAX: usize = 107;

/// Bytes that may follow the first 16 of version 2. Addresses take at most 216, what else a proxy
/// says is skipped.
const V2_REST_BYTES_MAX: usize = 4096;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// For whom a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A client at that address.
    Address(SocketAddr),
    /// A client on a Unix socket.
    Unix,
    /// Itself (a health check), or somebody that it does not tell of: its own address counts.
    Proxy,
}

/// What came is not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotAHeader;

/// Reads a header from the beginning of what came: for whom it speaks, and how long it is; none as
/// long as it is incomplete.
///
/// # Errors
/// It can't become a header, whatever follows.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Origin, usize)>, NotAHeader> {
    let begins = |with: &[u8]| {
        let length = with.len().min(bytes.len());
        bytes[..length] == with[..length]
    };
    if begins(V2_SIGNATURE) {
        parse_v2(bytes)
    } else if begins(b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(NotAHeader)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(Origin, usize)>, NotAHeader> {
    let line = &bytes[..bytes.len().min(V1_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX { Ok(None) } else { Err(NotAHeader) };
    };
    let text = std::str::from_utf8(&line[..end]).map_err(|_| NotAHeader)?;
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().ok_or(NotAHeader);
    let origin = match word()? {
        // What follows says nothing.
        "UNKNOWN" => return Ok(Some((Origin::Proxy, end + 2))),
        "TCP4" => {
            let (source, _) = (address::<Ipv4Addr>(word()?)?, address::<Ipv4Addr>(word()?)?);
            IpAddr::V4(source)
        }
        "TCP6" => {
            let (source, _) = (address::<Ipv6Addr>(word()?)?, address::<Ipv6Addr>(word()?)?);
            IpAddr::V6(source)
        }
        _ => return Err(NotAHeader),
    };
    let (source, _) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(NotAHeader);
    }
    Ok(Some((Origin::Address(SocketAddr::new(origin, source)), end + 2)))
}

fn address<A: std::str::FromStr>(text: &str) -> Result<A, NotAHeader> {
    text.parse().map_err(|_| NotAHeader)
}

fn port(text: &str) -> Result<u16, NotAHeader> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain).ok_or(NotAHeader)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(Origin, usize)>, NotAHeader> {
    let Some(&[command, family]) = bytes.get(12..14) else { return Ok(None) };
    let is_proxy = match command {
        0x20 => false, // LOCAL
        0x21 => true,
        _ => return Err(NotAHeader),
    };
    let Some(&[high, low]) = bytes.get(14..16) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_REST_BYTES_MAX {
        return Err(NotAHeader);
    }
    let Some(rest) = bytes.get(16..16 + length) else { return Ok(None) };
    let origin = match family {
        _ if !is_proxy => Origin::Proxy,
        0x00 => Origin::Proxy, // UNSPEC
        0x11 => {
            let fields: &[u8; 12] = rest.first_chunk().ok_or(NotAHeader)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *fields;
            let port = u16::from_be_bytes([high, low]);
            Origin::Address(SocketAddr::from(([a, b, c, d], port)))
        }
        0x21 => {
            let fields: &[u8; 36] = rest.first_chunk().ok_or(NotAHeader)?;
            let source: [u8; 16] = *fields.first_chunk().ok_or(NotAHeader)?;
            let port = u16::from_be_bytes([fields[32], fields[33]]);
            Origin::Address(SocketAddr::from((source, port)))
        }
        0x31 if rest.len() >= 216 => Origin::Unix,
        _ => return Err(NotAHeader), // no stream, or nothing that is known
    };
    Ok(Some((origin, 16 + length)))
}

/// Takes the header from what came, and nothing behind it.
pub(crate) struct Header;

impl Decoder for Header {
    type Item = Origin;
    type Error = NotAHeader;

    fn decode(&self, source: &mut BytesMut) -> Result<Option<Origin>, NotAHeader> {
        let Some((origin, length)) = parse(source)? else { return Ok(None) };
        source.advance(length);
        Ok(Some(origin))
    }
}

#[cfg(test)]
mod tests;
