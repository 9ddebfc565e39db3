//! What a process gives up before it touches what it does not trust.
//!
//! ```text
//! one thread:   control group ► namespaces ► capabilities ► Landlock ► resource limits    enter
//!   launcher:   Landlock of the engine alone ► no capabilities ► system calls             EngineJail
//!   main:       system calls                                                              seal
//! each thread:  the system calls of its role                                              thread
//! ```
//! A wall that the host's kernel does not have is left out, and [`Report`] says so; a wall that is
//! there and cannot be set up is an error. Paths are known before: whoever starts the process names
//! them as [`Grant`]s, and nothing else can be opened afterwards.
//!
//! Threads of one process share its memory: what only some threads may do is a hurdle to whoever
//! takes over another one, not a wall. The walls are those around the process.
//!
//! To read first: landlock(7), seccomp(2), user_namespaces(7), capabilities(7).

mod blank;
mod capabilities;
mod control_group;
mod engine_jail;
mod error;
mod grant;
mod landlock_rules;
mod limits;
mod namespaces;
mod plan;
mod report;
mod seccomp;
mod sys;

pub use blank::Blank;
pub use engine_jail::EngineJail;
pub use error::Error;
pub use grant::{Access, Grant, GrantError};
pub use plan::{Jail, Plan, enter};
pub use report::Report;
pub use seccomp::{Facts, Role, seal, thread};
#[cfg(debug_assertions)]
#[doc(hidden)]
pub use sys::attempts::{Targets, attempts};
