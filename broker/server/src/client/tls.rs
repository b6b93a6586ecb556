//! TLS towards a server: whom one trusts and who one is.
//! What must not live here: sockets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

use super::error::ClientError;
use super::link::Stream;

/// What the caller wants of TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsOptions {
    /// Certificates of authorities; none here and in `ca_path`: those of the system.
    pub(crate) ca_file: Option<PathBuf>,
    /// A folder of such files.
    pub(crate) ca_path: Option<PathBuf>,
    /// The client's own certificate chain and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Whoever answers is believed.
    pub(crate) insecure: bool,
    /// Only this version.
    pub(crate) version: Option<TlsVersion>,
    pub(crate) alpn: Option<String>,
    /// The name that the certificate has to have, if it is not the host's.
    pub(crate) server_name: Option<String>,
}

/// `--tls-version`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    V12,
    V13,
}

/// Makes the session's secrets and verifier ready; done once, also for many connections.
///
/// # Errors
/// A file that can't be used.
pub(crate) fn connector(options: &TlsOptions) -> Result<TlsConnector, ClientError> {
    let provider = Arc::new(ring::default_provider());
    let versions = match options.version {
        Some(TlsVersion::V12) => vec![&TLS12],
        Some(TlsVersion::V13) => vec![&TLS13],
        None => vec![&TLS13, &TLS12],
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|error| ClientError::NotAccepted(format!("TLS: {error}")))?;
    let builder = if options.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        builder.with_root_certificates(roots(options)?)
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| file(key, &error))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| file(certificate, &error))?
        }
    };
    config.alpn_protocols = options.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Shakes hands on `stream`.
///
/// # Errors
/// What is wrong with the server's certificate or answers.
pub(crate) async fn connect(
    connector: &TlsConnector,
    options: &TlsOptions,
    host: &str,
    server: &str,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, ClientError> {
    let failed = |error: String| ClientError::Tls { server: server.to_owned(), error };
    let name = options.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name).map_err(|error| failed(error.to_string()))?;
    let stream =
        connector.connect(name, stream).await.map_err(|error| failed(error.to_string()))?;
    Ok(Box::new(stream))
}

fn file(file: &Path, error: &impl std::fmt::Display) -> ClientError {
    ClientError::File { file: file.to_owned(), error: error.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let list = list.map_err(|error| file(path, &error))?;
    if list.is_empty() {
        return Err(file(path, &"no certificate in it (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(list)
}

fn roots(options: &TlsOptions) -> Result<RootCertStore, ClientError> {
    let mut store = RootCertStore::empty();
    let mut add = |path: &Path| -> Result<(), ClientError> {
        for certificate in certificates(path)? {
            store.add(certificate).map_err(|error| file(path, &error))?;
        }
        Ok(())
    };
    if let Some(path) = &options.ca_file {
        add(path)?;
    }
    if let Some(folder) = &options.ca_path {
        let entries = std::fs::read_dir(folder).map_err(|error| file(folder, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| file(folder, &error))?.path();
            // Keys and lists lie beside certificates in such folders.
            if path.is_file() && certificates(&path).is_ok() {
                add(&path)?;
            }
        }
    }
    if options.ca_file.is_none() && options.ca_path.is_none() {
        let found = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(found.certs);
    }
    if store.is_empty() {
        return Err(ClientError::NotAccepted(
            "no certificate authority is known here: name one with --cafile FILE".to_owned(),
        ));
    }
    Ok(store)
}

/// Believes whoever answers; signatures still have to fit the certificate that was shown.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
