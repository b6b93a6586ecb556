//! The header of a proxy: every byte of it is needed and nothing behind it matters, and an address is
//! read as it was written.
//! What must not live here: whom to believe.

use std::net::{IpAddr, SocketAddr};

use crate::net::proxy::{NotAHeader, Origin, parse};

/// The longest header: version 2 with all that may follow its addresses.
const HEADER_BYTES_MAX: usize = 16 + 4096;

pub(crate) fn run(bytes: &[u8]) {
    match parse(bytes) {
        Ok(None) => assert!(bytes.len() < HEADER_BYTES_MAX, "waits for more than a header takes"),
        Ok(Some((origin, length))) => {
            assert!(length <= bytes.len());
            assert_eq!(parse(&bytes[..length]), Ok(Some((origin, length))));
            for part in 0..length {
                assert_eq!(parse(&bytes[..part]), Ok(None), "complete after {part} of {length}");
            }
            if let Origin::Address(address) = origin {
                check(&first(address), address);
                check(&second(address), address);
            }
        }
        Err(NotAHeader) => {
            let mut more = bytes.to_vec();
            more.extend_from_slice(b"\r\n 1 2\r\n");
            assert_eq!(parse(&more), Err(NotAHeader), "what can't become a header became one");
        }
    }
}

fn check(header: &[u8], address: SocketAddr) {
    assert_eq!(parse(header), Ok(Some((Origin::Address(address), header.len()))));
}

fn first(address: SocketAddr) -> Vec<u8> {
    let (ip, port) = (address.ip(), address.port());
    let (family, to) = if ip.is_ipv4() { ("TCP4", "10.9.8.7") } else { ("TCP6", "fe80::7") };
    format!("PROXY {family} {ip} {to} {port} {}\r\n", port ^ 1).into_bytes()
}

fn second(address: SocketAddr) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (0x11, ip.octets().to_vec()),
        IpAddr::V6(ip) => (0x21, ip.octets().to_vec()),
    };
    let to: Vec<u8> = ip.iter().map(|byte| byte ^ 1).collect();
    let ports = [address.port().to_be_bytes(), (address.port() ^ 1).to_be_bytes()].concat();
    let rest = [&ip[..], &to, &ports].concat();
    let length = u16::try_from(rest.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family], &length, &rest].concat()
}
