//! A machine that QEMU runs.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::command_line::{CommandLine, NetworkDevice, second_transports};
use super::devices::Devices;
use super::keeper::Keeper;
use super::kernel_parameters::kernel_parameters;
use super::program;
use super::qmp::Version;
use crate::device_queues::disk_queues;
use crate::error::{ControlError, StartError};
use crate::exit::{Exit, ExitReason};
use crate::spec::VmSpec;
use crate::sys::{child, tsc};
use crate::vm::Ports;

/// How long QEMU may take to set a machine up. It takes 50 ms; a host that is out of memory or
/// overloaded gets a chance.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// A running QEMU.
#[derive(Debug)]
pub(crate) struct Machine {
    // Before the devices: they end after QEMU has.
    keeper: Keeper,
    version: Version,
    devices: Devices,
    /// Why we killed QEMU, when a device had failed.
    failure: Option<String>,
}

impl Machine {
    /// Starts QEMU and waits until it has set the machine up; the guest is running by then.
    pub(crate) async fn start(spec: VmSpec) -> Result<(Self, Ports), StartError> {
        let qemu = program::find().ok_or_else(|| StartError::EngineUnusable {
            detail: format!("{} is not installed", program::PROGRAM),
            remedy: program::INSTALL.to_owned(),
        })?;
        // Dropped after everything that holds the other ends of their sockets.
        let mut devices = Devices::default();
        let mut passed = Passed::default();
        let (control, control_fd) = passed.socket("the control port")?;
        let (console, console_fd) = passed.socket("the console")?;
        let (monitor, monitor_fd) = passed.socket("the control channel")?;
        let disk_queues = disk_queues(spec.cpus);
        let mut disks = Vec::new();
        for disk in spec.disks {
            let (ours, fd) = passed.socket("a disk's socket")?;
            devices.serve_disk(ours, disk, disk_queues)?;
            disks.push(fd);
        }
        let mut filesystems = Vec::new();
        for filesystem in spec.filesystems {
            let (ours, fd) = passed.socket("a filesystem's socket")?;
            filesystems.push((filesystem.tag.clone(), fd));
            devices.serve_filesystem(ours, filesystem)?;
        }
        let network = spec.network.map(|network| NetworkDevice {
            frames: passed.give(network.frames.into()),
            mac: network.mac,
            mtu: network.mtu,
        });
        let devices_of_ours = disks.len() + filesystems.len() + usize::from(network.is_some());
        let transports = second_transports(devices_of_ours);
        let arguments = CommandLine {
            cpus: spec.cpus,
            memory_mib: spec.memory_mib,
            kernel_parameters: &kernel_parameters(tsc::khz().await, &transports),
            second_ioapic: !transports.is_empty(),
            control_port: &spec.control_port,
            kernel: passed.give(spec.kernel.into()),
            initramfs: passed.give(spec.initramfs.into()),
            console: console_fd,
            control: control_fd,
            monitor: monitor_fd,
            disks: &disks,
            disk_queues,
            filesystems: &filesystems,
            network,
        }
        .arguments();
        let mut command = Command::new(&qemu);
        command.args(arguments).env_clear().env("LC_ALL", "C").current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        child::confine(&mut command, passed.fds);
        let (mut keeper, ready) = Keeper::start(command, monitor)?;
        let version = match tokio::time::timeout(READY_DEADLINE, ready).await {
            Ok(Ok(version)) => version?,
            Ok(Err(_)) => return Err(StartError::Ended(keeper.wait().await)),
            Err(_) => {
                keeper.kill();
                let exit = keeper.wait().await;
                return Err(StartError::NotReady { waited: READY_DEADLINE, exit });
            }
        };
        if version < program::MINIMUM {
            return Err(StartError::EngineUnusable {
                detail: format!("{} is QEMU {version}", qemu.display()),
                remedy: program::INSTALL.to_owned(),
            });
        }
        Ok((Self { keeper, version, devices, failure: None }, Ports { control, console }))
    }

    pub(crate) fn detail(&self) -> String {
        format!(
            "QEMU {}, software emulation; seccomp filter, no new privileges, inherited \
             descriptors only",
            self.version
        )
    }

    pub(crate) fn process_id(&self) -> Option<u32> {
        self.keeper.process_id()
    }

    pub(crate) async fn wait(&mut self) -> Exit {
        if self.failure.is_none() {
            tokio::select! {
                biased;
                exit = self.keeper.wait() => return exit,
                failure = self.devices.failure() => {
                    self.keeper.kill();
                    self.failure = Some(failure);
                }
            }
        }
        let mut exit = self.keeper.wait().await;
        if let Some(failure) = self.failure.as_ref().filter(|_| exit.reason == ExitReason::Killed) {
            exit.reason = ExitReason::Failed;
            exit.last_words = format!("{failure}\n{}", exit.last_words).trim_end().to_owned();
        }
        exit
    }

    pub(crate) fn kill(&self) {
        self.keeper.kill();
    }

    pub(crate) async fn pause(&self) -> Result<(), ControlError> {
        self.keeper.execute("stop").await
    }

    pub(crate) async fn resume(&self) -> Result<(), ControlError> {
        self.keeper.execute("cont").await
    }
}

/// Descriptors that the child inherits under their own numbers.
#[derive(Default)]
struct Passed {
    fds: Vec<OwnedFd>,
}

impl Passed {
    fn give(&mut self, fd: OwnedFd) -> RawFd {
        let number = fd.as_raw_fd();
        self.fds.push(fd);
        number
    }

    /// A connected pair: our end, and the number of the child's.
    fn socket(&mut self, what: &'static str) -> Result<(UnixStream, RawFd), StartError> {
        let pair: io::Result<_> = UnixStream::pair();
        let (ours, theirs) = pair.map_err(|source| StartError::Resource { what, source })?;
        Ok((ours, self.give(theirs.into())))
    }
}
