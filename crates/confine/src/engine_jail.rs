//! The second jail, inside the first: the thread that starts the engine's process, and that process.

use crate::capabilities;
use crate::error::Error;
use crate::landlock_rules::Rules;
use crate::seccomp::{Facts, Role, apply};

/// What the engine's process gets. Entered by the thread that starts it, which can do nothing else
/// from then on.
pub struct EngineJail {
    rules: Option<Rules>,
    facts: Facts,
}

impl std::fmt::Debug for EngineJail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineJail").field("landlock", &self.rules.is_some()).finish()
    }
}

impl EngineJail {
    pub(crate) fn new(rules: Option<Rules>, facts: Facts) -> Self {
        Self { rules, facts }
    }

    /// Confines this thread and all that it starts.
    ///
    /// # Errors
    /// [`Error`]; nothing may be started then.
    pub fn enter(self) -> Result<(), Error> {
        capabilities::drop_all()?;
        if let Some(rules) = self.rules {
            rules.restrict()?;
        }
        apply(Role::Launcher, self.facts)
    }
}
