//! The back end of vhost-user: one device, one front end, one connected socket.
//!
//! ```text
//!  front end ── socket ──► connection thread: handler::Handler (memory table, ring addresses)
//!                              │ starts, stops rings
//!                              ▼
//!                          the device's rings
//! ```

mod handler;
mod region;
mod server;

pub use server::DeviceServer;
