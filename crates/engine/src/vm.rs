//! A running machine, whatever runs it.

use tokio::net::UnixStream;

use crate::error::{ControlError, StartError};
use crate::probe::EngineKind;
use crate::{Exit, VmSpec};

/// A running virtual machine. Dropping it kills the engine and frees everything.
#[derive(Debug)]
pub struct Vm {
    control: Option<UnixStream>,
    console: Option<UnixStream>,
}

/// Starts a machine. Must be called inside a tokio runtime with I/O and time enabled.
///
/// # Errors
/// [`StartError`]; nothing is left behind.
pub async fn start(kind: EngineKind, spec: VmSpec) -> Result<Vm, StartError> {
    spec.check()?;
    Err(StartError::EngineNotBuilt(kind))
}

impl Vm {
    /// The host end of the control port.
    ///
    /// # Panics
    /// When it was taken before.
    pub fn take_control(&mut self) -> UnixStream {
        self.control.take().expect("the control port is taken once")
    }

    /// What the guest's kernel console prints. Nothing is to be written to it.
    ///
    /// # Panics
    /// When it was taken before.
    pub fn take_console(&mut self) -> UnixStream {
        self.console.take().expect("the console is taken once")
    }

    /// One line for people: the engine, its version and what confines it.
    pub fn detail(&self) -> String {
        String::new()
    }

    /// What the user should know although the machine runs; one sentence each.
    pub fn warnings(&self) -> &[String] {
        &[]
    }

    /// Process of the engine, where it has one of its own.
    pub fn process_id(&self) -> Option<u32> {
        None
    }

    /// Waits until the engine has ended. Can be called again, and dropped at any time.
    pub async fn wait(&mut self) -> Exit {
        std::future::pending().await
    }

    /// Ends the engine at once. Can be called again; `wait` tells when it is gone.
    pub fn kill(&self) {}

    /// Stops the guest's processors.
    ///
    /// # Errors
    /// [`ControlError`] when the engine does not do it.
    pub async fn pause(&self) -> Result<(), ControlError> {
        Err(ControlError::Gone)
    }

    /// Lets the guest's processors go on.
    ///
    /// # Errors
    /// [`ControlError`] when the engine does not do it.
    pub async fn resume(&self) -> Result<(), ControlError> {
        Err(ControlError::Gone)
    }
}
