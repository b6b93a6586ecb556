//! A certificate authority of a test: certificates, lists of revoked ones, and clients that show
//! and check them. Files stand in a directory of its own.
//! What must not live here: the broker.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// An authority and its files.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, directory: tempfile::tempdir().unwrap() };
        authority.write("ca.crt", &authority.issuer.pem());
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The path, as settings of the broker name it.
    pub(crate) fn named(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes NAME.crt and NAME.key, valid for `localhost` and this machine's own addresses.
    pub(crate) fn issue(&self, name: &str) {
        self.issue_with(name, |_| {});
    }

    /// The same, after `change` had its way.
    pub(crate) fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial(name));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        self.write(&format!("{name}.crt"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// Writes NAME, a list of the revoked certificates among those that were issued.
    pub(crate) fn revoke(&self, list: &str, names: &[&str]) {
        let revoked = names.iter().map(|name| RevokedCertParams {
            serial_number: serial(name),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write(list, &params.signed_by(&self.issuer).unwrap().pem().unwrap());
    }

    /// A client that trusts this authority and shows nothing.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_with(None, rustls::ALL_VERSIONS)
    }

    /// A client that shows the certificate of that name, of whatever authority.
    pub(crate) fn client_as(&self, shown: &Self, name: &str) -> Arc<ClientConfig> {
        self.client_with(Some((shown, name)), rustls::ALL_VERSIONS)
    }

    pub(crate) fn client_with(
        &self,
        shown: Option<(&Self, &str)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match shown {
            None => builder.with_no_client_auth(),
            Some((authority, name)) => {
                let chain = CertificateDer::from_pem_file(authority.path(&format!("{name}.crt")));
                let key = PrivateKeyDer::from_pem_file(authority.path(&format!("{name}.key")));
                builder.with_client_auth_cert(vec![chain.unwrap()], key.unwrap()).unwrap()
            }
        })
    }

    /// `{ certificate = …, key = … }` for the certificate of that name, with `more` in it.
    pub(crate) fn tls(&self, name: &str, more: &str) -> String {
        let (certificate, key) =
            (self.named(&format!("{name}.crt")), self.named(&format!("{name}.key")));
        format!("{{ certificate = \"{certificate}\", key = \"{key}\"{more} }}")
    }
}

/// A name's serial number.
fn serial(name: &str) -> SerialNumber {
    SerialNumber::from_slice(&[b"N", name.as_bytes()].concat())
}

/// A URI, as an alternative name.
pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// Copies a file over another, as whoever renews certificates does.
pub(crate) fn replace(file: &Path, by: &Path) {
    std::fs::copy(by, file).unwrap();
}
