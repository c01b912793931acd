//! TLS as libpq's `sslmode` has it, by rustls.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::address::home;

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Protection {
    pub(crate) fn parse(text: &str) -> Option<Protection> {
        Some(match text {
            "disable" => Protection::Disable,
            "allow" => Protection::Allow,
            "prefer" => Protection::Prefer,
            "require" => Protection::Require,
            "verify-ca" => Protection::VerifyCa,
            "verify-full" => Protection::VerifyFull,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Protection::Disable => "disable",
            Protection::Allow => "allow",
            Protection::Prefer => "prefer",
            Protection::Require => "require",
            Protection::VerifyCa => "verify-ca",
            Protection::VerifyFull => "verify-full",
        }
    }
}

/// `sslrootcert`, `sslcert` and `sslkey`; `None` for libpq's places in `~/.postgresql/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    pub root: Option<PathBuf>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// `sslcrl`: certificates that are revoked.
    pub revoked: Option<PathBuf>,
}

/// What the server has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

/// Makes the connector; the error is one line in libpq's manner.
pub(crate) fn connector(
    protection: Protection,
    files: &TlsFiles,
) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let at_home = |name: &str| home().map(|home| home.join(".postgresql").join(name));
    let (root, named) = match &files.root {
        Some(root) => (Some(root.clone()), true),
        None => (at_home("root.crt"), false),
    };
    let system = root.as_deref() == Some(Path::new("system"));
    let there = system || root.as_deref().is_some_and(Path::exists);
    let check = match protection {
        // As libpq does for the sake of old habits: a root file turns `require` into `verify-ca`.
        Protection::Require if there => Check::Chain,
        Protection::VerifyCa => Check::Chain,
        Protection::VerifyFull => Check::ChainAndName,
        _ => Check::Nothing,
    };
    if system && check == Check::Chain {
        return Err(
            "weak sslmode may not be used with sslrootcert=system (use \"verify-full\")".to_owned()
        );
    }
    let roots = match (check, root) {
        (Check::Nothing, _) => Vec::new(),
        (_, Some(_)) if system => rustls_native_certs::load_native_certs().certs,
        (_, Some(root)) if there => read_certificates(&root)?,
        (_, root) => {
            let root = root
                .map_or_else(|| "~/.postgresql/root.crt".to_owned(), |r| r.display().to_string());
            let remedy = if named {
                ""
            } else {
                "\nEither provide the file, use the system's trusted roots with \
                 sslrootcert=system, or change sslmode to disable server certificate verification."
            };
            return Err(format!("root certificate file \"{root}\" does not exist{remedy}"));
        }
    };
    let by_default = || at_home("root.crl").filter(|path| path.exists());
    let revoked = match files.revoked.clone().or_else(by_default) {
        Some(path) if check != Check::Nothing => read_revocations(&path)?,
        _ => Vec::new(),
    };
    let verifier = Verifier::new(check, roots, revoked, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let certificate = files.certificate.clone().or_else(|| at_home("postgresql.crt"));
    let key = files.key.clone().or_else(|| at_home("postgresql.key"));
    let config = match (certificate, key) {
        (Some(certificate), Some(key)) if certificate.exists() => {
            refuse_shared(&key)?;
            let chain = read_certificates(&certificate)?;
            let private = PrivateKeyDer::from_pem_file(&key).map_err(|error| {
                format!("could not load private key file \"{}\": {error}", key.display())
            })?;
            builder.with_client_auth_cert(chain, private).map_err(|error| error.to_string())?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Refuses a private key that others may read, in libpq's words; one of root's may be its group's.
fn refuse_shared(key: &Path) -> Result<(), String> {
    let Ok(found) = fs::metadata(key) else { return Ok(()) };
    if !found.is_file() {
        return Err(format!("private key file \"{}\" is not a regular file", key.display()));
    }
    let others = if found.uid() == 0 { 0o037 } else { 0o077 };
    if found.mode() & others == 0 {
        return Ok(());
    }
    Err(format!(
        "private key file \"{}\" has group or world access; file must have permissions u=rw (0600) or \
         less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root",
        key.display()
    ))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let complain = |reason: &dyn std::fmt::Display| {
        format!("could not read certificate file \"{}\": {reason}", path.display())
    };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| complain(&error))?;
    if certificates.is_empty() { Err(complain(&"no certificate in it")) } else { Ok(certificates) }
}

fn read_revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let complain = |reason: &dyn std::fmt::Display| {
        let file = path.display();
        format!("could not load SSL certificate revocation list file \"{file}\": {reason}")
    };
    let lists: Vec<CertificateRevocationListDer<'static>> =
        CertificateRevocationListDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| complain(&error))?;
    if lists.is_empty() { Err(complain(&"no list in it")) } else { Ok(lists) }
}

/// Checks as much as [`Check`] says, on top of rustls's own verifier.
#[derive(Debug)]
struct Verifier {
    check: Check,
    provider: Arc<CryptoProvider>,
    roots: Vec<CertificateDer<'static>>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl Verifier {
    fn new(
        check: Check,
        roots: Vec<CertificateDer<'static>>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, String> {
        let chain = if check == Check::Nothing {
            None
        } else {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots.iter().cloned());
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
                    .with_crls(revoked)
                    .build()
                    .map_err(|error| error.to_string())?;
            Some(verifier)
        };
        Ok(Verifier { check, provider, roots, chain })
    }

    fn signature(
        &self,
        verify: impl FnOnce(&WebPkiSupportedAlgorithms) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Whose certificate is not looked at may sign as it likes, with one of an old version too.
        if self.chain.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify(&self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // A server's own self-signed certificate as root file: trusted as it stands.
        if self.roots.iter().any(|root| root == end_entity) {
            if self.check == Check::ChainAndName {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let verdict =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is looked at last, when the chain is found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Chain => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(|algorithms| verify_tls12_signature(message, cert, dss, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(|algorithms| verify_tls13_signature(message, cert, dss, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What broke a connection, in libpq's words where the TLS library has its own.
pub fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let text = error.to_string();
    match text.as_str() {
        "timeout waiting for server" => "timeout expired".to_owned(),
        _ if text.starts_with("peer closed connection without sending TLS close_notify") => {
            "SSL connection has been closed unexpectedly".to_owned()
        }
        _ => text,
    }
}
