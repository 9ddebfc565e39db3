//! An image's configuration: the digests of its uncompressed layers, and what it says of how to
//! run it.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::shown::shown;

/// What is kept of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// Digests of the uncompressed layers, from the lowest to the topmost.
    pub diff_ids: Vec<Digest>,
    /// Seconds since 1970 at which the image was made, if it says so.
    pub created: Option<u32>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// More arguments, or a program.
    pub cmd: Vec<String>,
    /// A name or number, and perhaps a group's.
    pub user: Option<String>,
    /// Where the program is started.
    pub working_dir: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    architecture: String,
    os: String,
    created: Option<String>,
    config: Option<Execution>,
    rootfs: RootFs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
}

#[derive(Deserialize)]
struct RootFs {
    r#type: String,
    diff_ids: Vec<String>,
}

impl ImageConfig {
    /// Read the configuration of an image with so many layers.
    ///
    /// # Errors
    ///
    /// [`Error::Document`], [`Error::Platform`], [`Error::DigestForm`].
    pub fn parse(bytes: &[u8], layers: usize) -> Result<Self> {
        let bad = |reason: String| Error::document("The configuration", reason);
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
        if (document.os.as_str(), document.architecture.as_str()) != ("linux", "amd64") {
            let available = shown(format!("{}/{}", document.os, document.architecture).as_bytes());
            return Err(Error::Platform { available });
        }
        if document.rootfs.r#type != "layers" {
            return Err(bad("its rootfs is not made of layers".to_owned()));
        }
        let diff_ids: Vec<Digest> =
            document.rootfs.diff_ids.iter().map(|id| Digest::parse(id)).collect::<Result<_>>()?;
        if diff_ids.len() != layers {
            return Err(bad(format!("it has {} layers, the manifest {layers}", diff_ids.len())));
        }
        let created = document.created.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
        let execution = document.config.unwrap_or_default();
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Self {
            diff_ids,
            created: created
                .and_then(|at| u32::try_from(at.unix_timestamp()).ok())
                .filter(|at| *at > 0),
            env: execution.env.unwrap_or_default(),
            entrypoint: execution.entrypoint.unwrap_or_default(),
            cmd: execution.cmd.unwrap_or_default(),
            user: given(execution.user),
            working_dir: given(execution.working_dir),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut value = serde_json::json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05.678Z",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "Entrypoint": null, "User": "" },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"a").to_string()] },
            "history": [{}], "unknown": 1
        });
        edit(&mut value);
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn what_is_said_of_running_it_is_kept() {
        let config = ImageConfig::parse(&document(|_| ()), 1).unwrap();
        assert_eq!(config.diff_ids, [Digest::of(b"a")]);
        assert_eq!(config.created, Some(1_767_323_045));
        assert_eq!(
            (config.env, config.cmd),
            (vec!["PATH=/bin".to_owned()], vec!["/bin/sh".to_owned()])
        );
        assert_eq!((config.entrypoint, config.user), (vec![], None));
    }

    #[test]
    fn a_time_that_is_none_is_left_out() {
        for time in ["0001-01-01T00:00:00Z", "yesterday", "9999-01-01T00:00:00Z"] {
            assert_eq!(
                ImageConfig::parse(&document(|it| it["created"] = time.into()), 1).unwrap().created,
                None
            );
        }
    }

    #[test]
    fn another_platform_or_other_layers_are_refused() {
        let arm = document(|it| it["architecture"] = "arm64".into());
        assert!(ImageConfig::parse(&arm, 1).unwrap_err().to_string().contains("linux/arm64"));
        assert!(ImageConfig::parse(&document(|_| ()), 2).is_err());
        assert!(ImageConfig::parse(&document(|it| it["rootfs"]["type"] = "x".into()), 1).is_err());
        assert!(
            ImageConfig::parse(&document(|it| it["rootfs"]["diff_ids"] = "x".into()), 1).is_err()
        );
        assert!(ImageConfig::parse(b"{}", 0).is_err());
    }
}
