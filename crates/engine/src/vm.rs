//! A running machine, whatever runs it.

use tokio::net::UnixStream;

use crate::error::{ControlError, StartError};
use crate::exit::Exit;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use crate::krun;
use crate::probe::EngineKind;
use crate::spec::VmSpec;
use crate::sys::tsc;
use crate::usage::Usage;
use crate::{host_memory, qemu};

/// A running virtual machine. Dropping it kills the engine, waits for its process or its threads to
/// be gone (some ten milliseconds; 5 s at most, for one that hangs inside the host's kernel), and
/// frees everything.
#[derive(Debug)]
pub struct Vm {
    machine: Machine,
    control: Option<UnixStream>,
    console: Option<UnixStream>,
    warnings: Vec<String>,
}

/// One variant an engine.
#[derive(Debug)]
enum Machine {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Krun(krun::Machine),
    Qemu(qemu::Machine),
}

/// The host's ends of the guest's ports.
pub(crate) struct Ports {
    pub(crate) control: std::os::unix::net::UnixStream,
    pub(crate) console: std::os::unix::net::UnixStream,
}

/// Starts a machine; the guest runs when this returns. May be called on any thread of a tokio
/// runtime that has I/O and time enabled, and dropped at any time, which leaves nothing behind.
///
/// # Errors
/// [`StartError`]; nothing is left behind.
pub async fn start(kind: EngineKind, spec: VmSpec) -> Result<Vm, StartError> {
    tsc::begin();
    spec.check()?;
    let warnings = host_memory::check(spec.memory_mib)?.into_iter().collect();
    let (machine, ports) = match kind {
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        EngineKind::Krun => {
            let (machine, ports) = krun::Machine::start(spec).await?;
            (Machine::Krun(machine), ports)
        }
        #[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
        EngineKind::Krun => return Err(StartError::EngineNotBuilt(kind)),
        EngineKind::Qemu => {
            let (machine, ports) = qemu::Machine::start(spec).await?;
            (Machine::Qemu(machine), ports)
        }
    };
    Ok(Vm {
        machine,
        control: Some(asynchronous(ports.control)?),
        console: Some(asynchronous(ports.console)?),
        warnings,
    })
}

fn asynchronous(socket: std::os::unix::net::UnixStream) -> Result<UnixStream, StartError> {
    let resource = |source| StartError::Resource { what: "a port", source };
    socket.set_nonblocking(true).map_err(resource)?;
    UnixStream::from_std(socket).map_err(resource)
}

impl Vm {
    /// The host end of the control port: what the guest writes to the port, and what it reads.
    /// The guest may open and close its end; this one stays.
    ///
    /// # Panics
    /// When it was taken before.
    pub fn take_control(&mut self) -> UnixStream {
        self.control.take().expect("the control port is taken once")
    }

    /// What the guest's kernel console prints, hostile bytes; end of file when the engine is gone.
    /// Nothing is to be written to it. It must be read: a full socket makes each character that
    /// the guest prints wait.
    ///
    /// # Panics
    /// When it was taken before.
    pub fn take_console(&mut self) -> UnixStream {
        self.console.take().expect("the console is taken once")
    }

    /// One line for people: the engine, its version and what confines it.
    pub fn detail(&self) -> String {
        match &self.machine {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Machine::Krun(machine) => machine.detail(),
            Machine::Qemu(machine) => machine.detail(),
        }
    }

    /// What the user should know although the machine runs; one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The engine's process, where it has one of its own.
    pub fn process_id(&self) -> Option<u32> {
        match &self.machine {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Machine::Krun(_) => None,
            Machine::Qemu(machine) => machine.process_id(),
        }
    }

    /// What the engine uses of the host, beside what this process does for it: nothing, when it has
    /// no process of its own.
    pub fn usage(&self) -> Usage {
        self.process_id().map(Usage::of).unwrap_or_default()
    }

    /// Waits until the engine has ended and nothing of it is left. May be called again, and dropped at any
    /// time.
    pub async fn wait(&mut self) -> Exit {
        match &mut self.machine {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Machine::Krun(machine) => machine.wait().await,
            Machine::Qemu(machine) => machine.wait().await,
        }
    }

    /// Ends the engine at once. May be called again; `wait` tells when it is gone.
    pub fn kill(&self) {
        match &self.machine {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Machine::Krun(machine) => machine.kill(),
            Machine::Qemu(machine) => machine.kill(),
        }
    }

    /// Stops the guest's processors.
    ///
    /// # Errors
    /// [`ControlError`] when the engine does not do it within 5 s.
    pub async fn pause(&self) -> Result<(), ControlError> {
        match &self.machine {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Machine::Krun(machine) => machine.pause().await,
            Machine::Qemu(machine) => machine.pause().await,
        }
    }

    /// Lets the guest's processors go on. Whether the guest's clock has stood still meanwhile is
    /// the engine's affair: it is to be set.
    ///
    /// # Errors
    /// [`ControlError`] when the engine does not do it within 5 s.
    pub async fn resume(&self) -> Result<(), ControlError> {
        match &self.machine {
            #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
            Machine::Krun(machine) => machine.resume(),
            Machine::Qemu(machine) => machine.resume().await,
        }
    }
}
