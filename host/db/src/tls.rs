//! TLS to the server by rustls, with libpq's meanings of `sslmode`.
//!
//! `prefer` and `require` encrypt without looking at the certificate, `verify-ca` checks its chain
//! up to a root, `verify-full` its name too. The root is `sslrootcert`, else
//! `~/.postgresql/root.crt`; without one the verifying modes fail.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::uri::{SslMode, TlsParams};

/// TLS cannot be set up as the address asks.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("failed to read certificate file `{path}`")]
    File {
        path: String,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("`sslmode={mode}` needs a root certificate: give `sslrootcert`")]
    NoRoot { mode: &'static str },
    #[error("failed to set up TLS")]
    Setup(#[source] Error),
    #[error("failed to use the root certificates")]
    Roots(#[source] rustls::client::VerifierBuilderError),
}

/// The connector for an address.
pub(crate) fn connector(params: &TlsParams) -> Result<MakeRustlsConnect, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match params.mode {
        SslMode::Disable | SslMode::Prefer | SslMode::Require => {
            Arc::new(Unverified { provider: provider.clone() })
        }
        SslMode::VerifyCa => Arc::new(verified(params, "verify-ca", false, &provider)?),
        SslMode::VerifyFull => Arc::new(verified(params, "verify-full", true, &provider)?),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (&params.cert, &params.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| TlsError::File { path: key.display().to_string(), source })?;
            builder.with_client_auth_cert(chain, key).map_err(TlsError::Setup)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let context = |source| TlsError::File { path: path.display().to_string(), source };
    CertificateDer::pem_file_iter(path).map_err(context)?.collect::<Result<_, _>>().map_err(context)
}

fn verified(
    params: &TlsParams,
    mode: &'static str,
    by_name: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Verified, TlsError> {
    let default = || {
        let home = std::env::var_os("HOME")?;
        let path = PathBuf::from(home).join(".postgresql/root.crt");
        path.exists().then_some(path)
    };
    let path = params.root_cert.clone().or_else(default).ok_or(TlsError::NoRoot { mode })?;
    let roots = certificates(&path)?;
    let mut store = RootCertStore::empty();
    for certificate in &roots {
        store.add(certificate.clone()).map_err(TlsError::Setup)?;
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone())
        .build()
        .map_err(TlsError::Roots)?;
    Ok(Verified { chain, roots, by_name })
}

/// Takes any certificate: encryption without authentication.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
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
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Checks the chain, and the name where asked to. A server whose own certificate is a root, as
/// self-signed ones are, needs no chain.
#[derive(Debug)]
struct Verified {
    chain: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    by_name: bool,
}

impl ServerCertVerifier for Verified {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.roots.iter().any(|root| root == end_entity) {
            if self.by_name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        // The name is checked last, so an error about it means that the chain holds.
        match self.chain.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.by_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
