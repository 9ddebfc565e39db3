//! Whether /dev/kvm runs guest kernel code at the processor's speed.
//!
//! ```text
//! open ── make a machine ── up to 5 rounds, until one is fast ── judge
//!   │            │                     │
//!   │            └─ DeviceBroken       └─ none fast: KernelModeEmulated
//!   └─ NoDevice, NoPermission
//! ```
//! The machine runs on a thread of its own. When that does not answer in time it is interrupted by
//! a signal, and when even that does not help it is left behind: the probe never hangs.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::thread::JoinHandleExt;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use kvm_ioctls::Kvm;
use nix::errno::Errno;
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::SigSet;

use crate::probe::choose::KRUN_BUILT;
use crate::probe::{EngineKind, Finding, FindingCode, IsolationKind};
use crate::sys::kvm::{self, Failure, INSTRUCTIONS_A_COUNT, INTERRUPT, Machine};

/// How long machine and rounds may take before they are interrupted.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long an interrupted thread may take to end.
const LAST_DEADLINE: Duration = Duration::from_millis(500);
/// What the guest counts down from in a round.
const COUNT: u32 = 2_000;
/// Rounds that may be slow because the host was busy with something else just then.
const ROUNDS: u32 = 5;
/// A round that is no slower runs on the processor. In it are one loop of 4,000 instructions,
/// about 1 µs on any processor, and one exit to us, up to 50 µs where virtualization is nested;
/// emulation that was seen takes 2,400 µs.
const FAST_ROUND: Duration = Duration::from_micros(400);

/// Looks at one device.
pub(super) fn look(device: &Path) -> Finding {
    let kvm = match kvm::open(device) {
        Ok(kvm) => kvm,
        Err(errno) => return cannot_open(device, errno),
    };
    match measure(kvm, COUNT, DEADLINE) {
        Ok(fastest) => judge(device, fastest),
        Err(failure) => broken(device, &failure),
    }
}

/// The finding when looking itself failed.
pub(super) fn defect(device: &Path) -> Finding {
    let detail = format!("{} could not be examined.", device.display());
    finding(FindingCode::DeviceBroken, detail, "Report this as a defect of Lanebox.".to_owned())
}

fn finding(code: FindingCode, detail: String, remedy: String) -> Finding {
    Finding { engine: EngineKind::Krun, isolation: IsolationKind::Hardware, code, detail, remedy }
}

fn cannot_open(device: &Path, errno: Errno) -> Finding {
    let name = device.display();
    match errno {
        Errno::ENOENT | Errno::ENODEV | Errno::ENXIO => {
            let remedy = "Use a computer with hardware virtualization switched on in its firmware, \
                          or a virtual machine with nested virtualization, and load the module \
                          kvm_intel or kvm_amd; give a container the device (--device /dev/kvm).";
            let detail = format!("There is no {name} on this host.");
            finding(FindingCode::NoDevice, detail, remedy.to_owned())
        }
        Errno::EACCES | Errno::EPERM => {
            let detail = format!("{name} is there, but this user may not open it.");
            finding(FindingCode::NoPermission, detail, permission_remedy(device))
        }
        other => broken(device, &Failure::Call("open", other)),
    }
}

/// Joining the device's group, where that gives access; otherwise an entry for the one user.
fn permission_remedy(device: &Path) -> String {
    let group = std::fs::metadata(device)
        .ok()
        .filter(|found| found.permissions().mode() & 0o060 == 0o060 && found.gid() != 0)
        .and_then(|found| group_name(found.gid()));
    match group {
        Some(group) => format!(
            "Add the user to the group {group} (sudo usermod -aG {group} \"$USER\") and log in again."
        ),
        None => format!(
            "Give the user access to the device (sudo setfacl -m u:\"$USER\":rw {}).",
            device.display()
        ),
    }
}

fn group_name(gid: u32) -> Option<String> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    })
}

fn broken(device: &Path, failure: &Failure) -> Finding {
    let name = device.display();
    let what = match failure {
        Failure::Call(call, Errno::EBUSY) => {
            format!("{call} says EBUSY: another hypervisor has the processor's virtualization")
        }
        Failure::Call(call, errno) => format!("{call} says {errno}"),
        Failure::Version(version) => format!("its interface has version {version}, not 12"),
        Failure::Exit(exit) => format!("a guest of a few instructions ended with {exit}"),
        Failure::Interrupted => {
            let seconds = DEADLINE.as_secs();
            format!("a guest of a few instructions was not done after {seconds} s")
        }
    };
    let remedy = "Update the host's kernel, stop other hypervisors, or use another host.";
    let detail = format!("{name} opens but does not work: {what}.");
    finding(FindingCode::DeviceBroken, detail, remedy.to_owned())
}

fn judge(device: &Path, fastest: Duration) -> Finding {
    let name = device.display();
    let rate = f64::from(COUNT * INSTRUCTIONS_A_COUNT) / fastest.as_secs_f64().max(1e-9) / 1e6;
    if fastest > FAST_ROUND {
        let detail = format!(
            "{name} runs guests, but emulates their kernel mode: {rate:.1} million instructions a \
             second instead of thousands of millions."
        );
        let remedy = "Use bare metal, or a virtual machine with full nested virtualization.";
        return finding(FindingCode::KernelModeEmulated, detail, remedy.to_owned());
    }
    if KRUN_BUILT {
        let detail = format!("{name} runs guest kernel code on the processor.");
        return finding(FindingCode::Ok, detail, String::new());
    }
    let detail = format!(
        "{name} runs guest kernel code on the processor, but this version of Lanebox has no engine \
         that uses it."
    );
    let remedy = "Accept software emulation with isolation: { minimum: \"emulated\" }.";
    finding(FindingCode::EngineNotBuilt, detail, remedy.to_owned())
}

/// The fastest round.
fn measure(kvm: Kvm, count: u32, deadline: Duration) -> Result<Duration, Failure> {
    let (sender, result) = mpsc::channel();
    let run = move || {
        // Blocked, so that it is only ever seen by KVM_RUN, which ends; it needs no handler.
        let blocked = SigSet::all().thread_block();
        let measured = blocked
            .map_err(|errno| Failure::Call("pthread_sigmask", errno))
            .and_then(|()| fastest_round(&kvm, count));
        drop(kvm);
        let _ = sender.send(measured);
    };
    let thread = std::thread::Builder::new()
        .name("engine-probe".to_owned())
        .stack_size(256 * 1024)
        .spawn(run)
        .map_err(|_| Failure::Call("clone", Errno::last()))?;
    match result.recv_timeout(deadline) {
        Ok(measured) => joined(thread, measured),
        Err(RecvTimeoutError::Disconnected) => joined(thread, Err(Failure::Interrupted)),
        Err(RecvTimeoutError::Timeout) => {
            // Not joined yet, so the thread's handle is valid even if it has just ended.
            let _ = pthread_kill(thread.as_pthread_t(), INTERRUPT);
            match result.recv_timeout(LAST_DEADLINE) {
                Ok(measured) => joined(thread, measured),
                Err(_) => Err(Failure::Interrupted),
            }
        }
    }
}

/// The answer has come, so the thread has nothing left to do.
fn joined<T>(thread: JoinHandle<()>, result: T) -> T {
    let _ = thread.join();
    result
}

fn fastest_round(kvm: &Kvm, count: u32) -> Result<Duration, Failure> {
    let mut machine = Machine::new(kvm, count)?;
    let mut fastest = machine.round()?;
    for _ in 1..ROUNDS {
        if fastest <= FAST_ROUND {
            break;
        }
        fastest = fastest.min(machine.round()?);
    }
    Ok(fastest)
}

#[cfg(test)]
mod tests;
