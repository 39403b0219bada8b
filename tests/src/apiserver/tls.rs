//! Certificates for HTTPS.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Who vouches for servers.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate and key.
#[derive(Clone, Debug)]
pub struct Identity {
    config: Arc<ServerConfig>,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    ///
    /// No randomness.
    pub fn new() -> Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// Its certificate, as `certificate-authority` of a kubeconfig wants it.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server at an address.
    ///
    /// # Errors
    ///
    /// No randomness.
    pub fn identity(&self, address: IpAddr) -> Result<Identity> {
        let key = KeyPair::generate()?;
        let parameters = CertificateParams::new(vec![address.to_string()])?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Identity {
            config: Arc::new(config),
        })
    }
}

impl Identity {
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}
