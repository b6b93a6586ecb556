//! Headers byte by byte: whole, cut, followed by something, and nonsense.
//! What must not live here: sockets.

use std::net::SocketAddr;

use proptest::prelude::{any, prop, prop_oneof};
use proptest::strategy::{Just, Strategy};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::{NotAHeader, Origin, parse};

#[track_caller]
fn check(bytes: &[u8], expected: Result<Option<Origin>, NotAHeader>) {
    let expected = expected.map(|origin| origin.map(|origin| (origin, bytes.len())));
    assert_eq!(parse(bytes), expected, "{}", bytes.escape_ascii());
}

fn from(address: &str) -> Result<Option<Origin>, NotAHeader> {
    Ok(Some(Origin::Address(address.parse().unwrap())))
}

#[test]
fn headers_of_version_1() {
    check(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883\r\n", from("192.0.2.7:40000"));
    check(b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n", from("[2001:db8::7]:1"));
    check(b"PROXY UNKNOWN\r\n", Ok(Some(Origin::Proxy)));
    check(b"PROXY UNKNOWN ffff::1 whatever 1\r\n", Ok(Some(Origin::Proxy)));
    check(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883", Ok(None));
    for wrong in [
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000 1883 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 +40000 1883\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 40000 65536\r\n",
        "PROXY TCP4 192.0.2.7  198.51.100.1 40000 1883\r\n",
        "PROXY TCP4 ::1 ::1 40000 1883\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 40000 1883\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 40000 1883\r\n",
        "PROXY \r\n",
        "proxy UNKNOWN\r\n",
        "\u{10}\u{c}",
    ] {
        check(wrong.as_bytes(), Err(NotAHeader));
    }
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 93]].concat();
    check(&endless[..106], Ok(None));
    check(&endless, Err(NotAHeader));
}

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, rest].concat()
}

#[test]
fn headers_of_version_2() {
    let four = [192, 0, 2, 7, 198, 51, 100, 1, 0x9c, 0x40, 7, 91];
    check(&v2(0x21, 0x11, &four), from("192.0.2.7:40000"));
    let mut six = [0; 36];
    six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    six[15] = 7;
    six[33] = 1;
    check(&v2(0x21, 0x21, &six), from("[2001:db8::7]:1"));
    check(&v2(0x21, 0x31, &[0; 216]), Ok(Some(Origin::Unix)));
    check(&v2(0x20, 0x00, &[]), Ok(Some(Origin::Proxy)));
    check(&v2(0x20, 0x11, &four), Ok(Some(Origin::Proxy)));
    check(&v2(0x21, 0x00, &[1, 2, 3]), Ok(Some(Origin::Proxy)));
    let with_more = [four.as_slice(), &[0x04, 0, 3, 1, 2, 3]].concat();
    check(&v2(0x21, 0x11, &with_more), from("192.0.2.7:40000"));
    check(&v2(0x21, 0x11, &four[..11]), Err(NotAHeader));
    check(&v2(0x21, 0x21, &six[..35]), Err(NotAHeader));
    check(&v2(0x21, 0x31, &[0; 215]), Err(NotAHeader));
    check(&v2(0x21, 0x12, &four), Err(NotAHeader));
    check(&v2(0x22, 0x11, &four), Err(NotAHeader));
    check(&v2(0x11, 0x11, &four), Err(NotAHeader));
    check(&v2(0x20, 0x00, &[0; 4096]), Ok(Some(Origin::Proxy)));
    check(&v2(0x20, 0x00, &[0; 4097])[..16], Err(NotAHeader));
}

/// A header and what it says.
fn header() -> impl Strategy<Value = (Vec<u8>, Origin)> {
    let text = any::<SocketAddr>().prop_map(|source| {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (ip, port) = (source.ip(), source.port());
        let line = format!("PROXY {family} {ip} {ip} {port} 1883\r\n");
        (line.into_bytes(), Origin::Address(SocketAddr::new(ip, port)))
    });
    let more = prop::collection::vec(any::<u8>(), 0..100);
    let binary = (any::<SocketAddr>(), more).prop_map(|(source, more)| {
        let port = source.port().to_be_bytes();
        let (family, mut rest) = match source.ip() {
            std::net::IpAddr::V4(ip) => (0x11, [ip.octets(); 2].concat()),
            std::net::IpAddr::V6(ip) => (0x21, [ip.octets(); 2].concat()),
        };
        rest.extend([port[0], port[1], 7, 91]);
        rest.extend(more);
        let origin = Origin::Address(SocketAddr::new(source.ip(), source.port()));
        (v2(0x21, family, &rest), origin)
    });
    let unknown = Just((b"PROXY UNKNOWN\r\n".to_vec(), Origin::Proxy));
    prop_oneof![text, binary, unknown]
}

proptest! {
    #[test]
    fn a_header_is_read_wherever_it_is_cut_and_whatever_follows(
        (bytes, origin) in header(),
        follows in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        for cut in 0..bytes.len() {
            prop_assert_eq!(parse(&bytes[..cut]), Ok(None));
        }
        let length = bytes.len();
        let whole = [bytes, follows].concat();
        prop_assert_eq!(parse(&whole), Ok(Some((origin, length))));
    }

    #[test]
    fn nonsense_is_refused_or_waited_for_within_bounds(
        begins in prop_oneof![
            Just(b"".as_slice()), Just(b"PROXY ".as_slice()), Just(b"PROXY TCP4 ".as_slice()),
            Just(b"\r\n\r\n\0\r\nQUIT\n".as_slice()), Just(b"\r\n\r\n\0\r\nQUIT\n\x21\x11".as_slice()),
        ],
        follows in prop::collection::vec(any::<u8>(), 0..6000),
    ) {
        let bytes = [begins, &follows].concat();
        match parse(&bytes) {
            Ok(Some((_, length))) => prop_assert!(length <= bytes.len()),
            Ok(None) => prop_assert!(bytes.len() < 16 + 4096),
            Err(NotAHeader) => {}
        }
    }
}
