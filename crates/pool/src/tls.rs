//! The pool's certificate: read from files, and again when they change, without closing anybody.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// What TLS (1.2 or 1.3) takes. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    shown: Arc<Shown>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{path} holds no {what} in PEM form: {why}", path = .path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// The two do not go together.
    #[error("{certificate} and {key} cannot be used together: {why}", certificate = .certificate.display(), key = .key.display())]
    Unfit {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why not.
        why: String,
    },
}

/// The certificate shown to whoever connects, whatever name it asks for: many miners ask for none (F-46).
struct Shown {
    certificate: PathBuf,
    key: PathBuf,
    now: RwLock<(Arc<CertifiedKey>, Age)>,
}

/// When the two files were last changed.
type Age = [Option<SystemTime>; 2];

impl Tls {
    /// Reads the certificate (with the chain behind it) and its key, both PEM.
    ///
    /// # Errors
    /// If they cannot be read, or are not what they should be.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = (Arc::new(read(certificate, key)?), age(certificate, key));
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        let shown = Arc::new(Shown { certificate, key, now: RwLock::new(read) });
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| shown.unfit(&error))?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        Ok(Self { config: Arc::new(config), shown })
    }

    /// Reads the files again if they have changed. True: there is a new certificate, for connections from now on.
    ///
    /// # Errors
    /// As [`Self::load`]; the old certificate stays then.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Shown { certificate, key, now } = &*self.shown;
        let age = age(certificate, key);
        if now.read().unwrap_or_else(PoisonError::into_inner).1 == age {
            return Ok(false);
        }
        let read = read(certificate, key);
        let mut now = now.write().unwrap_or_else(PoisonError::into_inner);
        now.1 = age; // what is wrong with them is said once
        now.0 = Arc::new(read?);
        Ok(true)
    }

    /// The server's end of a new connection.
    ///
    /// # Errors
    /// Never with a configuration such as [`Self::load`] makes.
    pub(crate) fn connection(&self) -> Result<ServerConnection, rustls::Error> {
        let mut connection = ServerConnection::new(self.config.clone())?;
        // What is written is taken out at once, so it needs no bound; with one, the end of a long reply would be lost.
        connection.set_buffer_limit(None);
        Ok(connection)
    }
}

impl Shown {
    fn unfit(&self, why: &rustls::Error) -> TlsError {
        TlsError::Unfit { certificate: self.certificate.clone(), key: self.key.clone(), why: why.to_string() }
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.certificate.display())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({:?})", self.shown)
    }
}

fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let bytes = |path: &Path| {
        std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
    };
    let not_pem = |path: &Path, what, why: String| TlsError::NotPem { path: path.to_owned(), what, why };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes(certificate)?)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(certificate, "certificate", error.to_string()))?;
    if chain.is_empty() {
        return Err(not_pem(certificate, "certificate", "there is none in it".into()));
    }
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?)
        .map_err(|error| not_pem(key, "private key", error.to_string()))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider()).map_err(|error| TlsError::Unfit {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        why: error.to_string(),
    })
}

fn age(certificate: &Path, key: &Path) -> Age {
    [certificate, key].map(|path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
}
