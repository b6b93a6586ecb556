//! Mistakes in a listener's section.
//! What must not live here: the files that it names, which are opened later (`certificates`).

use super::refused;

#[test]
fn a_trusted_proxy_is_an_address_a_network_or_unix() {
    refused(
        "[listeners.a]\ntrusted_proxies = [\"unix\", \"10.0.0.0/8\", \"::1\", \"10.0.0.0/64\"]\n",
        r#"
  × `trusted_proxies` is not usable: behind / stands a number from 0 to 32
   ╭─[broker.toml:2:49]
 1 │ [listeners.a]
 2 │ trusted_proxies = ["unix", "10.0.0.0/8", "::1", "10.0.0.0/64"]
   ·                                                 ──────┬──────
   ·                                                       ╰── this source
   ╰────
  help: write "10.0.0.1", "10.0.0.0/8", or "unix" for Unix sockets"#,
    );
}

#[test]
fn a_mode_is_for_unix_sockets() {
    refused(
        "[listeners.a]\nbind = \"127.0.0.1:1883\"\nunix_mode = 0o660\n",
        r#"
  × `unix_mode` has no meaning without a Unix socket
   ╭─[broker.toml:3:13]
 2 │ bind = "127.0.0.1:1883"
 3 │ unix_mode = 0o660
   ·             ──┬──
   ·               ╰── this listener is on an address
   ╰────
  help: bind = "unix:mqtt.sock" is one, in the directory of broker.toml"#,
    );
}

#[test]
fn versions_of_tls_are_named_and_revocation_needs_authorities() {
    refused(
        "[listeners.a.tls]\ncertificate = \"a\"\nkey = \"b\"\ncrl = \"c\"\nversions = [\"1.1\"]\n",
        r#"
  × `crl` has no meaning without `client_ca`
   ╭─[broker.toml:4:7]
 3 │ key = "b"
 4 │ crl = "c"
   ·       ─┬─
   ·        ╰── clients are not asked for a certificate
 5 │ versions = ["1.1"]
   ╰────
  help: client_ca = "clients-ca.crt" names the authorities of theirs

  × there is no TLS "1.1" here
   ╭─[broker.toml:5:13]
 4 │ crl = "c"
 5 │ versions = ["1.1"]
   ·             ──┬──
   ·               ╰── not a known version
   ╰────
  help: did you mean `1.3`? known versions: 1.2, 1.3"#,
    );
}
