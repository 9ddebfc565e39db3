//! Which names an address has, as far as accepted DNS answers say.
//!
//! A name is trusted for an address for as long as its record lives, and for ten minutes at least:
//! programs keep addresses longer than resolvers do. Nothing else makes a name trusted; above all not
//! what the guest writes into a `Host` header.

mod host_name;
mod store;

pub use host_name::HostName;
pub use store::{Names, SHORTEST_PIN};
