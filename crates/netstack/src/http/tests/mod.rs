//! A guest, an origin on loopback, and interception between them.

mod adversary;
mod http1;
mod tls;
mod world;
