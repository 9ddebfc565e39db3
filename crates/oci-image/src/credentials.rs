//! User names and passwords out of Docker's configuration: `auths` of `~/.docker/config.json`, or of
//! the file in the folder that `DOCKER_CONFIG` names. Credential helpers are programs; none is run.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::shown::shown;

/// A configuration larger than this is none.
const MAX: u64 = 1024 * 1024;
/// Under which Docker keeps what it knows of Docker Hub.
const HUB: [&str; 3] = ["https://index.docker.io/v1/", "index.docker.io", "docker.io"];

/// A user's name and password for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: String,
    password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DockerConfig {
    auths: Option<HashMap<String, Auth>>,
    cred_helpers: Option<HashMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Where Docker keeps its configuration for this user.
    #[must_use]
    pub fn default_path() -> Option<PathBuf> {
        let named = std::env::var_os("DOCKER_CONFIG").filter(|folder| !folder.is_empty());
        let folder =
            named.map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".docker")))?;
        Some(folder.join("config.json"))
    }

    /// What the file at `path` has for this registry; nothing when there is no such file.
    ///
    /// # Errors
    ///
    /// [`Error::Credentials`] for a file that is damaged, [`Error::CredentialHelper`] when a program
    /// keeps them.
    pub fn find(path: &Path, registry: &str) -> Result<Option<Self>> {
        let Some(text) = read(path)? else { return Ok(None) };
        let bad = |reason: String| Error::Credentials { path: path.to_owned(), reason };
        // The parser's words could quote the file.
        let config: DockerConfig = serde_json::from_slice(&text)
            .map_err(|error| bad(format!("line {} is not as it should be", error.line())))?;
        let keys = keys_of(registry);
        let helper = |name: &str| Error::CredentialHelper {
            registry: registry.to_owned(),
            helper: shown(name.as_bytes()),
            path: path.to_owned(),
        };
        let helpers = config.cred_helpers.unwrap_or_default();
        if let Some(name) = keys.iter().find_map(|key| helpers.get(key)) {
            return Err(helper(name));
        }
        let auths = config.auths.unwrap_or_default();
        let Some(auth) = keys.iter().find_map(|key| auths.get(key)) else { return Ok(None) };
        match (auth.decode().map_err(bad)?, config.creds_store) {
            (Some(found), _) => Ok(Some(found)),
            (None, Some(store)) => Err(helper(&store)),
            (None, None) => Ok(None),
        }
    }

    /// The value of an `Authorization` header.
    pub(crate) fn basic(&self) -> String {
        format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)))
    }
}

impl Auth {
    fn decode(&self) -> std::result::Result<Option<Credentials>, String> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if given(&self.identitytoken).is_some() {
            return Err(
                "identity tokens are not supported; use a user name and a password".to_owned()
            );
        }
        if let (Some(user), Some(password)) = (given(&self.username), given(&self.password)) {
            return Ok(Some(Credentials { user, password }));
        }
        let Some(auth) = given(&self.auth) else { return Ok(None) };
        let wrong = || "an \"auth\" is not the base64 of user:password".to_owned();
        let bytes = STANDARD.decode(auth.trim()).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Some(Credentials {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        }))
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    let mut text = Vec::new();
    file.take(MAX + 1).read_to_end(&mut text).map_err(Error::file("read", path))?;
    if text.len() as u64 > MAX {
        return Err(Error::Credentials {
            path: path.to_owned(),
            reason: "it is too large".to_owned(),
        });
    }
    Ok(Some(text))
}

/// Under which names a registry may stand in the file.
fn keys_of(registry: &str) -> Vec<String> {
    if registry == "index.docker.io" {
        return HUB.map(str::to_owned).to_vec();
    }
    let schemes = ["", "https://", "http://"];
    schemes
        .iter()
        .flat_map(|scheme| ["", "/", "/v1/", "/v2/"].map(|end| format!("{scheme}{registry}{end}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, registry: &str) -> Result<Option<Credentials>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        Credentials::find(&path, registry)
    }

    #[test]
    fn a_registry_has_its_own_credentials_and_no_others() {
        // "me:pa:ss"
        let text = r#"{"auths":{"https://a.example":{"auth":"bWU6cGE6c3M="},"https://index.docker.io/v1/":
            {"username":"hub","password":"x"},"c.example":{}},"other":[1]}"#;
        let me = Credentials { user: "me".to_owned(), password: "pa:ss".to_owned() };
        assert_eq!(find(text, "a.example").unwrap(), Some(me));
        assert_eq!(find(text, "a.example:5000").unwrap(), None);
        assert_eq!(find(text, "example").unwrap(), None);
        assert_eq!(find(text, "c.example").unwrap(), None);
        assert_eq!(find(text, "index.docker.io").unwrap().unwrap().user, "hub");
    }

    #[test]
    fn no_file_is_no_credentials() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Credentials::find(&folder.path().join("none"), "a").unwrap(), None);
    }

    #[test]
    fn helpers_are_refused_where_they_are_in_charge() {
        let text = r#"{"credHelpers":{"a.example":"pass"},"credsStore":"desktop","auths":{"b.example":{},
            "c.example":{"auth":"bWU6cGE6c3M="}}}"#;
        let error = find(text, "a.example").unwrap_err().to_string();
        assert!(error.contains("'pass'") && error.contains("not supported"), "{error}");
        assert!(matches!(find(text, "b.example"), Err(Error::CredentialHelper { .. })));
        assert!(find(text, "c.example").unwrap().is_some());
        assert_eq!(find(text, "d.example").unwrap(), None, "pulled anonymously");
    }

    #[test]
    fn a_damaged_file_is_an_error_that_does_not_quote_it() {
        for text in [
            "{",
            r#"{"auths":{"a":{"auth":"secret!"}}}"#,
            r#"{"auths":{"a":{"auth":"c2VjcmV0"}}}"#,
            r#"{"auths":{"a":{"identitytoken":"secret"}}}"#,
            r#"{"auths":"secret"}"#,
        ] {
            let error = find(text, "a").unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
