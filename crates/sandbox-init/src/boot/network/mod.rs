//! The guest's network: its interface, its resolver, and whom programs believe.

mod certificates;
mod interface;
mod resolver;
mod settings;

pub(crate) use certificates::{install, variables};
pub(crate) use interface::set_up;
pub(crate) use resolver::write as write_resolver;
pub(crate) use settings::Network;
