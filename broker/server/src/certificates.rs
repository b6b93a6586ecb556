//! Certificates: from the files that a listener names to what TLS works with, and what a client's
//! says about it.
//! What must not live here: connections (`net::tls`).

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{Error, InconsistentKeys, RootCertStore, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use wasmqtt_core::hook::{AlternativeName, CertificateFacts};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::clock;
use crate::config::listener::{ClientCertificate, Tls};

/// What is wrong with a listener's files.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CertificateError {
    /// The key of the listener's `tls` that names the file.
    pub key: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// What TLS works with.
struct Loaded {
    config: Arc<ServerConfig>,
    warnings: Vec<Word>,
}

/// Something worth a word: the key of the listener's `tls` that names the file, and what.
pub(crate) type Word = (&'static str, String);

fn load(tls: &Tls) -> Result<Loaded, CertificateError> {
    let mut warnings = Vec::new();
    let chain: Vec<CertificateDer<'static>> =
        read_all("certificate", &tls.certificate, "certificate")?;
    if let Some(word) = validity(&chain[0]) {
        let shown = tls.certificate.display();
        warnings.push(("certificate", format!("the certificate in {shown} {word}")));
    }
    let key = read_key(&tls.key)?;
    let provider = Arc::new(ring::default_provider());
    let own = CertifiedKey::from_der(chain, key, &provider).map_err(|error| unfit(tls, &error))?;
    let versions: &[&SupportedProtocolVersion] = match (tls.with_1_2, tls.with_1_3) {
        (true, false) => &[&rustls::version::TLS12],
        (false, true) => &[&rustls::version::TLS13],
        (true, true) | (false, false) => rustls::ALL_VERSIONS,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| problem("versions", error.to_string(), ""))?;
    let verifier = match &tls.clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(authorities(&clients.authorities)?);
            let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
            if let Some(path) = &clients.revoked {
                let lists = revoked(path, &mut warnings)?;
                // A certificate that no list speaks of, and one whose list is outdated, is refused.
                builder = builder
                    .with_crls(lists)
                    .only_check_end_entity_revocation()
                    .enforce_revocation_expiration();
            }
            if clients.certificate == ClientCertificate::Optional {
                builder = builder.allow_unauthenticated();
            }
            builder.build().map_err(|error| {
                let key = if clients.revoked.is_some() { "crl" } else { "client_ca" };
                problem(key, format!("`{key}` can't be used: {error}"), "")
            })?
        }
    };
    let is_mutual = tls.clients.is_some();
    let mut config = builder
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(own)));
    if is_mutual {
        // A session that is taken up again is not verified again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    } else {
        // Clients keep their sessions themselves: any number of them reconnect at half the price.
        config.ticketer =
            ring::Ticketer::new().map_err(|error| problem("certificate", error.to_string(), ""))?;
    }
    Ok(Loaded { config: Arc::new(config), warnings })
}

/// What a listener's TLS works with, until it is read anew.
pub(crate) struct Certificates {
    files: Tls,
    current: RwLock<Arc<ServerConfig>>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificates {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// They can't be used.
    pub(crate) fn new(files: Tls) -> Result<(Self, Vec<Word>), CertificateError> {
        let Loaded { config, warnings } = load(&files)?;
        Ok((Self { files, current: RwLock::new(config) }, warnings))
    }

    /// For one connection.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files anew, for connections to come.
    ///
    /// # Errors
    /// They can't be used: what was read before stays.
    pub(crate) fn reload(&self) -> Result<Vec<Word>, CertificateError> {
        let Loaded { config, warnings } = load(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(warnings)
    }
}

fn problem(key: &'static str, message: String, hint: impl Into<String>) -> CertificateError {
    CertificateError { key, message, hint: hint.into() }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a few of many have words of their own")]
fn unfit(tls: &Tls, error: &Error) -> CertificateError {
    let (certificate, key) = (tls.certificate.display(), tls.key.display());
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => problem(
            "key",
            format!("the key in {key} does not belong to the certificate in {certificate}"),
            "the first certificate of the file must be the server's own, then those that signed it",
        ),
        Error::InvalidCertificate(error) => problem(
            "certificate",
            format!("the certificate in {certificate} can't be used: {error}"),
            "it must be an X.509 certificate of version 3",
        ),
        other => problem(
            "key",
            format!("the key in {key} can't be used: {other}"),
            "keys can be ECDSA (P-256, P-384), Ed25519, or RSA of 2048 bits and more",
        ),
    }
}

/// The bytes of a file, which must be text in the PEM format.
fn read(key: &'static str, path: &Path, what: &str) -> Result<Vec<u8>, CertificateError> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|error| {
        let (message, hint) = if error.kind() == ErrorKind::NotFound {
            let hint = "a relative path is relative to the directory of broker.toml";
            (format!("there is no file {shown}"), hint)
        } else if error.kind() == ErrorKind::PermissionDenied {
            let hint = "the user that the broker runs as must be allowed to read it";
            (format!("can't read {shown}: {error}"), hint)
        } else {
            (format!("can't read {shown}: {error}"), "")
        };
        problem(key, message, hint)
    })?;
    if std::str::from_utf8(&bytes).is_ok_and(|text| text.contains("-----BEGIN ")) {
        return Ok(bytes);
    }
    let hint = match key {
        "key" => "convert a binary one: openssl pkey -inform DER -in OLD -out NEW",
        "crl" => "convert a binary one: openssl crl -inform DER -in OLD -out NEW",
        _ => "convert a binary one: openssl x509 -inform DER -in OLD -out NEW",
    };
    Err(problem(key, format!("{shown} is not a {what} in the PEM format"), hint))
}

/// Everything of a kind that is in a file; at least one.
fn read_all<T: PemObject>(
    key: &'static str,
    path: &Path,
    what: &str,
) -> Result<Vec<T>, CertificateError> {
    let bytes = read(key, path, what)?;
    let shown = path.display();
    let all: Vec<T> = T::pem_slice_iter(&bytes)
        .collect::<Result<_, pem::Error>>()
        .map_err(|error| problem(key, format!("{shown} is not readable as PEM: {error}"), ""))?;
    if all.is_empty() {
        let hint = format!("it begins with -----BEGIN {}-----", what.to_uppercase());
        return Err(problem(key, format!("there is no {what} in {shown}"), hint));
    }
    Ok(all)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let bytes = read("key", path, "private key")?;
    let shown = path.display();
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("ENCRYPTED") {
        return Err(problem(
            "key",
            format!("the key in {shown} is encrypted"),
            "the broker asks for no passphrase; decrypt it: openssl pkey -in OLD -out NEW",
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if matches!(error, pem::Error::NoItemsFound) {
            let hint = "it begins with -----BEGIN PRIVATE KEY-----";
            return problem("key", format!("there is no private key in {shown}"), hint);
        }
        problem("key", format!("{shown} is not readable as PEM: {error}"), "")
    })
}

fn authorities(path: &Path) -> Result<RootCertStore, CertificateError> {
    let all: Vec<CertificateDer<'static>> = read_all("client_ca", path, "certificate")?;
    let mut roots = RootCertStore::empty();
    for certificate in all {
        roots.add(certificate).map_err(|error| {
            let shown = path.display();
            problem("client_ca", format!("a certificate in {shown} can't be used: {error}"), "")
        })?;
    }
    Ok(roots)
}

fn revoked(
    path: &Path,
    warnings: &mut Vec<Word>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, CertificateError> {
    let lists: Vec<CertificateRevocationListDer<'static>> = read_all("crl", path, "X509 CRL")?;
    let now = clock::unix_seconds();
    for list in &lists {
        let next =
            CertificateList::from_der(list).ok().and_then(|list| list.tbs_cert_list.next_update);
        if next.is_some_and(|next| next.to_unix_duration().as_secs() <= now) {
            let word =
                "is outdated: certificates of its authority are refused until there is a newer one";
            warnings.push(("crl", format!("a list in {} {word}", path.display())));
        }
    }
    Ok(lists)
}

/// A word on a certificate that is not valid at this time.
fn validity(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    let validity = certificate.tbs_certificate.validity;
    let now = clock::unix_seconds();
    if validity.not_after.to_unix_duration().as_secs() < now {
        return Some(format!("has expired on {}: clients will refuse it", validity.not_after));
    }
    if validity.not_before.to_unix_duration().as_secs() > now {
        return Some(format!("is not valid before {}", validity.not_before));
    }
    None
}

/// What a client's certificate, which is verified, says about it.
pub(crate) fn facts(der: &[u8]) -> CertificateFacts {
    let mut facts = CertificateFacts {
        common_name: None,
        alternative_names: Vec::new(),
        fingerprint_sha256: Sha256::digest(der).into(),
    };
    // One that is not read by this stricter reader has a fingerprint, and no names.
    if let Ok(certificate) = Certificate::from_der(der) {
        let subject = &certificate.tbs_certificate;
        facts.common_name = common_name(&certificate);
        if let Ok(Some((_, SubjectAltName(names)))) = subject.get::<SubjectAltName>() {
            facts.alternative_names = names.iter().filter_map(alternative_name).collect();
        }
    }
    facts
}

/// The subject's common name; none where there are two, as nobody knows which one counts.
fn common_name(certificate: &Certificate) -> Option<Box<str>> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let parts = certificate.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let mut names = parts.filter(|part| part.oid == COMMON_NAME).map(|part| &part.value);
    let value = names.next().filter(|_| names.next().is_none())?;
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str());
    let printable = || value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str());
    let ia5 = || value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str());
    printable_text(utf8.or_else(printable).or_else(ia5)?)
}

fn alternative_name(name: &GeneralName) -> Option<AlternativeName> {
    match name {
        GeneralName::DnsName(name) => printable_text(name.as_str()).map(AlternativeName::Dns),
        GeneralName::Rfc822Name(name) => printable_text(name.as_str()).map(AlternativeName::Email),
        GeneralName::UniformResourceIdentifier(name) => {
            printable_text(name.as_str()).map(AlternativeName::Uri)
        }
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let address = <[u8; 4]>::try_from(bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
            address.ok().map(|address| AlternativeName::Ip(address.to_string().into()))
        }
        GeneralName::OtherName(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::RegisteredId(_) => None,
    }
}

/// A name that shows all that is in it.
fn printable_text(text: &str) -> Option<Box<str>> {
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.into())
}

#[cfg(test)]
mod tests;
