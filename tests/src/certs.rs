//! A throw-away certificate authority and the leaf certificates it signs (EC P-256). Made at start, never stored in the repository.

use crate::{Result, keys::unix_now, temp::TempDir};
use jsonwebtoken::{
    Algorithm, EncodingKey,
    jwk::{Jwk, JwkSet},
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs, server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The names every development server is reached by.
pub const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Which application protocols a TLS end offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// No ALPN extension at all.
    None,
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
    /// `h2`, then `http/1.1`.
    Both,
}

impl Alpn {
    pub(crate) fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::None => vec![],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![b"h2".to_vec()],
            Self::Both => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// A certificate authority. Its root is also a PEM file, for `caFile` and for `SSL_CERT_FILE` of child processes.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    pem: String,
    dir: TempDir,
}

impl Ca {
    /// Makes a new authority.
    ///
    /// # Errors
    /// When its PEM file cannot be written.
    pub fn new() -> Result<Self> {
        Self::named("token-sidecar development root")
    }

    /// As [`Ca::new`], under a name of its own.
    ///
    /// # Errors
    /// As [`Ca::new`].
    pub fn named(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params.self_signed(&key)?;
        let dir = TempDir::new("token-sidecar-ca")?;
        let pem = certificate.pem();
        fs::write(dir.join("ca.pem"), &pem)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            root: certificate.der().clone(),
            pem,
            dir,
        })
    }

    /// The PEM file with the root.
    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The root as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The directory of the PEM files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Signs a server certificate for `names` (DNS names and addresses).
    ///
    /// # Errors
    /// When a name is neither.
    pub fn leaf(&self, names: &[&str]) -> Result<Leaf> {
        let name = names.first().copied().unwrap_or("localhost");
        self.sign(names, name, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    /// As [`Ca::leaf`], good from the first day to the second, each (year, month, day).
    ///
    /// # Errors
    /// As [`Ca::leaf`].
    pub fn dated_leaf(
        &self,
        names: &[&str],
        from: (i32, u8, u8),
        to: (i32, u8, u8),
    ) -> Result<Leaf> {
        let name = names.first().copied().unwrap_or("localhost");
        self.sign(names, name, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.not_before = date_time_ymd(from.0, from.1, from.2);
            params.not_after = date_time_ymd(to.0, to.1, to.2);
        })
    }

    /// As [`Ca::leaf`], good for this long from now.
    ///
    /// # Errors
    /// As [`Ca::leaf`].
    pub fn leaf_for(&self, names: &[&str], life: Duration) -> Result<Leaf> {
        let name = names.first().copied().unwrap_or("localhost");
        self.sign(names, name, ExtendedKeyUsagePurpose::ServerAuth, |params| {
            params.not_after = date_time_ymd(1970, 1, 1) + unix_now() + life;
        })
    }

    fn sign(
        &self,
        names: &[&str],
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Leaf> {
        let key = KeyPair::generate()?;
        let mut params = leaf_params(names, name, usage)?;
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf::new(&certificate, &key))
    }

    /// A server's TLS configuration with a fresh leaf for `names`.
    ///
    /// # Errors
    /// As [`Ca::leaf`].
    pub fn server(&self, names: &[&str], alpn: Alpn) -> Result<Arc<ServerConfig>> {
        Self::serving(self.leaf(names)?, alpn)
    }

    /// As [`Ca::server`], with a certificate of its own making.
    ///
    /// # Errors
    /// Never in practice.
    pub fn serving(leaf: Leaf, alpn: Alpn) -> Result<Arc<ServerConfig>> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(vec![leaf.certificate], key)?;
        config.alpn_protocols = alpn.protocols();
        Ok(Arc::new(config))
    }

    /// As [`Ca::server`], asking clients for certificates that this authority signed. Whoever shows none is served too, unless one is demanded.
    ///
    /// # Errors
    /// As [`Ca::leaf`].
    pub fn asking_server(
        &self,
        names: &[&str],
        alpn: Alpn,
        demanding: bool,
    ) -> Result<Arc<ServerConfig>> {
        let leaf = self.leaf(names)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key));
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let verifier = match demanding {
            true => verifier.build()?,
            false => verifier.allow_unauthenticated().build()?,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.certificate], key)?;
        config.alpn_protocols = alpn.protocols();
        Ok(Arc::new(config))
    }

    /// Signs a client certificate with this common name.
    ///
    /// # Errors
    /// Never in practice.
    pub fn client_leaf(&self, name: &str) -> Result<Leaf> {
        self.sign(&[], name, ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    /// As [`Ca::client_leaf`], good from the first day to the second, each (year, month, day).
    ///
    /// # Errors
    /// Never in practice.
    pub fn dated_client_leaf(
        &self,
        name: &str,
        from: (i32, u8, u8),
        to: (i32, u8, u8),
    ) -> Result<Leaf> {
        self.sign(&[], name, ExtendedKeyUsagePurpose::ClientAuth, |params| {
            params.not_before = date_time_ymd(from.0, from.1, from.2);
            params.not_after = date_time_ymd(to.0, to.1, to.2);
        })
    }

    /// A fresh leaf for `names` with its key, for a server that chooses among several.
    ///
    /// # Errors
    /// As [`Ca::leaf`].
    pub fn certified_key(&self, names: &[&str]) -> Result<Arc<CertifiedKey>> {
        let leaf = self.leaf(names)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key));
        let key = aws_lc_rs::sign::any_supported_type(&key)?;
        Ok(Arc::new(CertifiedKey::new(vec![leaf.certificate], key)))
    }

    /// A client's TLS configuration that trusts this authority alone.
    ///
    /// # Errors
    /// Never in practice: the root is our own.
    pub fn client(&self, alpn: Alpn) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone())?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = alpn.protocols();
        Ok(Arc::new(config))
    }

    /// Leaves the PEM files in place on drop, for a person to look at.
    pub fn keep(&mut self) {
        self.dir.keep();
    }

    /// Writes a leaf's chain and key as `NAME.pem` and `NAME-key.pem` and returns both paths.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn write_leaf(&self, name: &str, leaf: &Leaf) -> Result<(PathBuf, PathBuf)> {
        let (chain, key) = (
            self.dir.join(format!("{name}.pem")),
            self.dir.join(format!("{name}-key.pem")),
        );
        fs::write(&chain, &leaf.pem)?;
        fs::write(&key, &leaf.key_pem)?;
        Ok((chain, key))
    }
}

/// A certificate and its key.
pub struct Leaf {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
    key_pem: String,
}

fn leaf_params(
    names: &[&str],
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams> {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    Ok(params)
}

impl Leaf {
    /// A server's certificate that nobody but itself has signed.
    ///
    /// # Errors
    /// As [`Ca::leaf`].
    pub fn alone(names: &[&str]) -> Result<Self> {
        let key = KeyPair::generate()?;
        let name = names.first().copied().unwrap_or("localhost");
        let params = leaf_params(names, name, ExtendedKeyUsagePurpose::ServerAuth)?;
        Ok(Self::new(&params.self_signed(&key)?, &key))
    }

    fn new(certificate: &Certificate, key: &KeyPair) -> Self {
        Self {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key as PEM (PKCS#8).
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Its public key alone in a JWK set.
    ///
    /// # Errors
    /// Never in practice: the key is our own.
    pub fn jwks(&self) -> Result<JwkSet> {
        let key = EncodingKey::from_ec_der(&self.key);
        Ok(JwkSet {
            keys: vec![Jwk::from_encoding_key(&key, Algorithm::ES256)?],
        })
    }

    /// `x5t#S256` (RFC 7515 section 4.1.8).
    pub fn thumbprint(&self) -> String {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, &self.certificate);
        URL_SAFE_NO_PAD.encode(digest)
    }
}
