//! What clients send, checked once into types that cannot be wrong after. Every refusal names the
//! field as the proto file spells it, and the value.

mod boot;
mod file;
mod flatten;
mod mount;
mod network;
mod process;
mod root;

pub(crate) use boot::deadline;
pub use boot::{ArtifactPath, BootPlan, boot};
pub use file::{TreeRules, guest_path, link_target, permissions};
pub(crate) use file::{is_link_target, is_name, is_stat};
pub use flatten::{FlattenPlan, flatten, kept};
pub use mount::{BindPlan, CallbackPlan, MountPlan, MountSource};
pub(crate) use network::resolvers;
pub use network::{CallbacksPlan, NetworkPlan, PolicyPlan, PublishPlan, RulePlan, policy, publish};
pub use process::{SignalPlan, check_start, resize, signal, wait};
pub(crate) use process::{is_pid, is_signal_name};
pub use root::{DiskFormat, OverlayPlan, RootImage, StorePlan};

use std::borrow::Cow;

use crate::limits::{MAX_ENV, MAX_PATH};

/// A field that does not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}, but {reason}")]
pub struct RequestError {
    /// The field, with dots for the fields of messages in messages.
    pub field: Cow<'static, str>,
    /// What it was, for people, shortened.
    pub value: String,
    /// What would be right.
    pub reason: String,
}

impl RequestError {
    pub(crate) fn new(
        field: impl Into<Cow<'static, str>>,
        value: impl std::fmt::Debug,
        reason: impl Into<String>,
    ) -> Self {
        const SHOWN: usize = 120;
        let mut value = format!("{value:?}");
        if let Some((cut, _)) = value.char_indices().nth(SHOWN) {
            value.truncate(cut);
            value.push('…');
        }
        Self { field: field.into(), value, reason: reason.into() }
    }
}

/// Linux's rules for names and values, and ours for their number.
fn check_env(
    field: &'static str,
    env: &std::collections::HashMap<String, String>,
) -> Result<(), RequestError> {
    if env.len() > MAX_ENV {
        let reason = format!("there can be {MAX_ENV} variables");
        return Err(RequestError::new(field, env.len(), reason));
    }
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            let reason = "a variable's name is not empty and holds neither \"=\" nor NUL";
            return Err(RequestError::new(field, name, reason));
        }
        if value.contains('\0') {
            let reason = "a variable's value holds no NUL";
            return Err(RequestError::new(field, name, reason));
        }
    }
    Ok(())
}

/// An absolute path without NUL that Linux can take.
fn check_path(field: &'static str, path: &str) -> Result<(), RequestError> {
    if !path.starts_with('/') {
        return Err(RequestError::new(field, path, "it must be an absolute path"));
    }
    if path.contains('\0') || path.len() >= MAX_PATH {
        let reason = format!("a path holds no NUL and is shorter than {MAX_PATH} bytes");
        return Err(RequestError::new(field, path, reason));
    }
    Ok(())
}
