//! What a server that is not ours shows for itself.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A root of its own, and a certificate by it.
pub(crate) struct Paper {
    /// The root's certificate, in PEM.
    pub(crate) root: String,
    /// The server's certificate, in PEM.
    pub(crate) leaf: String,
    /// Its key, in PEM.
    pub(crate) key: String,
}

impl Paper {
    /// For a server of that name.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the root of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let root = params.self_signed(&key).expect("a root").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let leaf = params.signed_by(&key, &issuer).expect("a leaf").pem();
        Self { root, leaf, key: key.serialize_pem() }
    }
}
