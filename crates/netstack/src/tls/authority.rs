//! The certificate authority, and a leaf for each name.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Alpn, VERSIONS, provider};

/// What the authority's certificate is called.
const SUBJECT: &str = "Lanebox interception";
/// Guests' clocks may be behind.
const BACKDATED: Duration = Duration::from_hours(1);
/// Life of the authority's certificate.
const AUTHORITY_LIFE: Duration = Duration::from_hours(2 * 365 * 24);
/// Life of a leaf, of which clients accept no more than 398 days.
const LEAF_LIFE: Duration = Duration::from_hours(24);
/// A leaf is made anew when less than this is left of it.
const LEAF_RENEWED: Duration = Duration::from_hours(8);
/// Leaves that are kept; the one that was not used for longest makes room.
const MOST_LEAVES: usize = 512;

/// Signs leaves for the names that guests connect to. One for each boot.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    leaf_key: KeyPair,
    leaves: Mutex<Leaves>,
}

#[derive(Default)]
struct Leaves {
    by_name: HashMap<String, Leaf>,
    uses: u64,
}

struct Leaf {
    configs: [Arc<ServerConfig>; 3],
    renewed_at: SystemTime,
    used: u64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// It cannot be made.
    #[error("The certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
    /// It cannot be used.
    #[error("The certificate cannot be used")]
    Tls(#[from] rustls::Error),
}

impl Authority {
    /// The name by which OpenSSL looks for its certificate in a folder (`openssl rehash`): a hash of
    /// the subject, which is the same for every authority.
    pub const OPENSSL_LINK: &str = "be6945ac.0";

    /// A new authority, with a new key.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(now: SystemTime) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, SUBJECT);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + AUTHORITY_LIFE).into();
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            leaf_key: KeyPair::generate()?,
            leaves: Mutex::default(),
        })
    }

    /// The certificate that guests are to trust.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// How to answer a guest that connects to `name`, a host name or an address.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn server_config(
        &self,
        name: &str,
        alpn: Alpn,
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        leaves.uses += 1;
        let used = leaves.uses;
        if let Some(leaf) = leaves.by_name.get_mut(name).filter(|leaf| leaf.renewed_at > now) {
            leaf.used = used;
            return Ok(Arc::clone(&leaf.configs[alpn as usize]));
        }
        let leaf = self.leaf(name, now, used)?;
        let config = Arc::clone(&leaf.configs[alpn as usize]);
        leaves.insert(name, leaf);
        Ok(config)
    }

    fn leaf(&self, name: &str, now: SystemTime, used: u64) -> Result<Leaf, AuthorityError> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "Lanebox interception leaf");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + LEAF_LIFE).into();
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let config = |alpn: Alpn| {
            let key = PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der());
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)?
                .with_no_client_auth()
                .with_single_cert(chain.clone(), PrivateKeyDer::Pkcs8(key))?;
            config.alpn_protocols = alpn.to_wire();
            Ok::<_, AuthorityError>(Arc::new(config))
        };
        let configs = [config(Alpn::None)?, config(Alpn::Http1)?, config(Alpn::Http2)?];
        Ok(Leaf { configs, renewed_at: now + LEAF_LIFE - LEAF_RENEWED, used })
    }
}

impl Leaves {
    fn insert(&mut self, name: &str, leaf: Leaf) {
        if self.by_name.len() >= MOST_LEAVES && !self.by_name.contains_key(name) {
            let oldest = self.by_name.iter().min_by_key(|(_, leaf)| leaf.used);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.by_name.remove(&name);
            }
        }
        self.by_name.insert(name.to_owned(), leaf);
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_leaf_is_kept_until_it_is_to_be_renewed() {
        let now = SystemTime::now();
        let authority = Authority::new(now).unwrap();
        let at = |after| authority.server_config("a.example", Alpn::Http1, now + after).unwrap();
        let first = at(Duration::ZERO);
        let renewed = LEAF_LIFE - LEAF_RENEWED;
        assert!(Arc::ptr_eq(&first, &at(renewed - Duration::from_secs(1))));
        assert!(!Arc::ptr_eq(&first, &at(renewed)));
        let other = authority.server_config("a.example", Alpn::Http2, now).unwrap();
        assert_eq!(other.alpn_protocols, [b"h2"]);
    }

    #[test]
    fn openssl_looks_for_the_certificate_by_the_link() {
        let authority = Authority::new(SystemTime::now()).unwrap();
        let mut openssl = std::process::Command::new("openssl");
        openssl.args(["x509", "-noout", "-hash"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(mut openssl) = openssl.spawn() else {
            println!("skipped: openssl_looks_for_the_certificate_by_the_link: no openssl");
            return;
        };
        let mut stdin = openssl.stdin.take().unwrap();
        stdin.write_all(authority.certificate_pem().as_bytes()).unwrap();
        drop(stdin);
        let hash = String::from_utf8(openssl.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(format!("{}.0", hash.trim()), Authority::OPENSSL_LINK);
    }

    #[test]
    fn leaves_are_bounded_and_the_one_unused_for_longest_goes() {
        let now = SystemTime::now();
        let authority = Authority::new(now).unwrap();
        let leaf = authority.leaf("a.example", now, 0).unwrap();
        let mut leaves = authority.leaves.lock().unwrap();
        for used in 0..=MOST_LEAVES as u64 {
            let leaf = Leaf { configs: leaf.configs.clone(), renewed_at: now, used };
            leaves.insert(&format!("{used}.example"), leaf);
        }
        assert_eq!(leaves.by_name.len(), MOST_LEAVES);
        assert!(!leaves.by_name.contains_key("0.example"));
    }
}
