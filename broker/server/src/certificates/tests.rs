//! What is read from clients' certificates.
//! What must not live here: handshakes.

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use sha2::{Digest, Sha256};
use wasmqtt_core::hook::AlternativeName;

use super::facts;

fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    change(&mut params);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

#[track_caller]
fn check_common_name(name: &str, expected: Option<&str>) {
    let der = certificate(|params| params.distinguished_name.push(DnType::CommonName, name));
    assert_eq!(facts(&der).common_name.as_deref(), expected);
}

#[test]
fn a_common_name_is_read_if_it_shows_all_that_is_in_it() {
    check_common_name("sensor-7", Some("sensor-7"));
    check_common_name("Zähler 7", Some("Zähler 7"));
    check_common_name("admin\u{0}.example", None);
    check_common_name("admin\n", None);
    check_common_name("", None);
}

#[test]
fn alternative_names_are_read_in_their_order() {
    let der = certificate(|params| {
        params.subject_alt_names = vec![
            SanType::URI("urn:device:7".try_into().unwrap()),
            SanType::DnsName("seven.example".try_into().unwrap()),
            SanType::Rfc822Name("seven@example.org".try_into().unwrap()),
            SanType::IpAddress("192.0.2.7".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ];
    });
    let expected = [
        AlternativeName::Uri("urn:device:7".into()),
        AlternativeName::Dns("seven.example".into()),
        AlternativeName::Email("seven@example.org".into()),
        AlternativeName::Ip("192.0.2.7".into()),
        AlternativeName::Ip("2001:db8::7".into()),
    ];
    assert_eq!(facts(&der).alternative_names, expected);
}

#[test]
fn the_fingerprint_is_of_the_whole_certificate_also_where_no_name_can_be_read() {
    let mut der = certificate(|_| {});
    assert_eq!(facts(&der).fingerprint_sha256, <[u8; 32]>::from(Sha256::digest(&der)));
    der.truncate(100);
    let facts = facts(&der);
    assert_eq!(facts.fingerprint_sha256, <[u8; 32]>::from(Sha256::digest(&der)));
    assert_eq!((facts.common_name, facts.alternative_names), (None, Vec::new()));
}
