//! For this crate's tests: layers made by hand, and a registry that can misbehave.

pub(crate) mod layers;
pub(crate) mod registry;
