//! How a virtual machine ended.

/// The end of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Status the engine's process exited with; `None` when a signal ended it, or when the engine
    /// has no process of its own.
    pub code: Option<i32>,
    /// Number of the signal that ended the engine's process.
    pub signal: Option<i32>,
    /// Who ended the machine, as far as the engine told.
    pub reason: ExitReason,
    /// The last that the engine itself wrote to its standard error, at most 8 KiB, UTF-8 made
    /// valid, or why it failed. Not the guest's console.
    pub last_words: String,
}

/// Who ended a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest reset itself: a restart, a kernel panic with `panic=-1`, a triple fault. None of
    /// our guests powers off: a reset is how each of them ends.
    GuestReset,
    /// The guest switched the machine off.
    GuestShutdown,
    /// The guest told the engine that it panicked. A panic that only resets is `GuestReset`.
    GuestPanic,
    /// [`crate::Vm::kill`] was called before the engine ended.
    Killed,
    /// Somebody else ended the engine: a signal, or a failure of the engine that `last_words`
    /// explains.
    Failed,
}
