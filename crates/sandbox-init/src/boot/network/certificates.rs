//! The certificate authority of interception, put where programs look for those they believe.
//!
//! A bundle of the image's certificates and ours lies on /run and is named by the variables that
//! programs read. On a writable root ours also goes into the trust store, as `update-ca-certificates`
//! would put it, so that programs without our environment believe it too; the one of an earlier
//! boot makes room. Over the bundle of a read-only root the one on /run is bound.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

use super::settings::Authority;
use crate::boot::step::{Failure, While};
use crate::boot::{files, mounts, names};

/// Where the bundles of distributions are: Debian and Alpine, Fedora, openSUSE, others.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Where `update-ca-certificates` finds what is local.
const LOCAL: &str = "/usr/local/share/ca-certificates";
/// Where OpenSSL looks for single certificates.
const HASHED: &str = "/etc/ssl/certs";
const NAME: &str = "lanebox";
/// Around ours in a bundle.
const BEGIN: &str = "# Lanebox: the authority of this boot\n";
const END: &str = "# Lanebox: end\n";
/// An image's bundle is not larger.
const MAX_BUNDLE: u64 = 16 * 1024 * 1024;

/// Variables that name a bundle: of OpenSSL and what uses it, curl, git, Python's requests and pip,
/// Cargo, the AWS and Google SDKs.
const BUNDLE_VARIABLES: [&str; 8] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
];
/// Variables that name certificates beside a program's own: Node, Deno.
const EXTRA_VARIABLES: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

fn certificate() -> String {
    format!("{}/{NAME}-ca.crt", names::RUNTIME)
}

fn bundle() -> String {
    format!("{}/ca-certificates.crt", names::RUNTIME)
}

/// What processes find in their environment.
pub(crate) fn variables() -> impl Iterator<Item = (CString, CString)> {
    let named = |names: &'static [&'static str], path: String| {
        names.iter().filter_map(move |name| {
            Some((CString::new(*name).ok()?, CString::new(path.clone()).ok()?))
        })
    };
    named(&BUNDLE_VARIABLES, bundle()).chain(named(&EXTRA_VARIABLES, certificate()))
}

/// Puts the certificate where programs find it.
pub(crate) fn install(authority: &Authority, read_only: bool) -> Result<(), Failure> {
    files::replace(&certificate(), &authority.pem)?;
    let theirs = BUNDLES.iter().find(|path| fs::metadata(path).is_ok_and(|found| found.is_file()));
    let image = theirs.map_or(Ok(String::new()), |path| read(path))?;
    let with_ours = joined(&image, &authority.pem);
    files::replace(&bundle(), &with_ours)?;
    let Some(theirs) = theirs else { return Ok(()) };
    if read_only {
        return mounts::bind(&bundle(), theirs);
    }
    // A link, such as Alpine's /etc/ssl/cert.pem, stays one.
    let theirs = fs::canonicalize(theirs).during(|| format!("Looking for {theirs}"))?;
    files::replace(&theirs.to_string_lossy(), &with_ours)?;
    keep_for_updates(authority)
}

fn keep_for_updates(authority: &Authority) -> Result<(), Failure> {
    if is_directory(LOCAL) {
        files::replace(&format!("{LOCAL}/{NAME}.crt"), &marked(&authority.pem))?;
    }
    if let Some(link) = authority.link.as_ref().filter(|_| is_directory(HASHED)) {
        files::replace(&format!("{HASHED}/{NAME}.pem"), &authority.pem)?;
        mounts::link(&format!("{NAME}.pem"), &format!("{HASHED}/{link}"))?;
    }
    Ok(())
}

fn is_directory(path: &str) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_dir())
}

fn read(path: &str) -> Result<String, Failure> {
    let read = fs::metadata(Path::new(path)).and_then(|found| {
        if found.len() > MAX_BUNDLE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
    });
    read.during(|| format!("Reading {path}"))
}

fn marked(pem: &str) -> String {
    let line_end = if pem.ends_with('\n') { "" } else { "\n" };
    format!("{BEGIN}{pem}{line_end}{END}")
}

/// The bundle with ours at its end; that of an earlier boot is gone.
fn joined(image: &str, pem: &str) -> String {
    let mut rest = image;
    let mut kept = String::new();
    while let Some((before, after)) = rest.split_once(BEGIN) {
        kept.push_str(before);
        rest = after.split_once(END).map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    kept + &marked(pem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_of_an_earlier_boot_makes_room() {
        let first = joined("image\n", "first");
        assert_eq!(first, format!("image\n{BEGIN}first\n{END}"));
        assert_eq!(joined(&first, "second\n"), format!("image\n{BEGIN}second\n{END}"));
        let updated = format!("image\n{BEGIN}first\n{END}local");
        assert_eq!(joined(&updated, "second"), format!("image\nlocal\n{BEGIN}second\n{END}"));
        // What has no end cannot be trusted to be the image's.
        assert_eq!(joined(&format!("image\n{BEGIN}cut"), "x"), format!("image\n{BEGIN}x\n{END}"));
        assert_eq!(joined("", "only"), marked("only"));
    }

    #[test]
    fn every_variable_names_a_file() {
        let all: Vec<_> = variables().collect();
        assert_eq!(all.len(), BUNDLE_VARIABLES.len() + EXTRA_VARIABLES.len());
        let node = all.iter().find(|(name, _)| name.as_c_str() == c"NODE_EXTRA_CA_CERTS");
        assert_eq!(node.unwrap().1.as_c_str(), c"/run/lanebox/lanebox-ca.crt");
    }
}
