//! From lists to filters, and to threads.

use std::collections::BTreeMap;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::calls::{self, List, When};
use super::role::Role;
use crate::capabilities;
use crate::error::{Error, system};
use crate::grant::Access;
use crate::plan::Plan;
use crate::sys;

/// What the filters depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    network: bool,
    reads_directories: bool,
    writes_directories: bool,
}

/// Set when the process is sealed: from then on threads have roles.
static SEALED: OnceLock<Facts> = OnceLock::new();

impl Facts {
    pub(crate) fn new(plan: &Plan) -> Self {
        let any =
            |wanted| plan.grants.iter().any(|grant| grant.access == wanted && grant.path.is_dir());
        let writes_directories = any(Access::Write);
        let reads_directories = writes_directories || any(Access::Read);
        Self { network: plan.network, reads_directories, writes_directories }
    }

    /// The lists for serving directories.
    pub(super) fn host_directories(self) -> impl Iterator<Item = List> {
        let reads = self.reads_directories.then_some(calls::READ_DIRECTORIES);
        reads.into_iter().chain(self.writes_directories.then_some(calls::WRITE_DIRECTORIES))
    }

    /// The lists for the network.
    pub(super) fn internet(self) -> Option<List> {
        self.network.then_some(calls::INTERNET)
    }
}

/// Restricts the system calls of this thread, which is to start all others, and has those be
/// restricted by their roles. Once in the life of a process.
///
/// The result is the end of a pipe, which does not block: four bytes come for each call that is
/// refused, its number, the lowest first. Numbers that do not fit are lost; the calls are refused all
/// the same.
///
/// # Errors
/// [`Error`]; the process must then exit.
pub fn seal(facts: Facts) -> Result<OwnedFd, Error> {
    let (read, write) =
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(system("make a pipe"))?;
    // Open until the process ends.
    sys::tell_refused(write.into_raw_fd()).map_err(system("handle SIGSYS"))?;
    let _ = SEALED.set(facts);
    apply(Role::Main, facts)?;
    Ok(read)
}

/// Restricts this thread, and what it starts, to a role, for good: the system calls, and the
/// capabilities where the role is not about files. Does nothing in a process that
/// is not sealed. A process that cannot restrict its thread ends.
pub fn thread(role: Role) {
    let Some(facts) = SEALED.get() else { return };
    let dropped = if role.uses_files() { Ok(()) } else { capabilities::drop_all() };
    if let Err(error) = dropped.and_then(|()| apply(role, *facts)) {
        eprintln!("sandbox-host: a thread cannot be confined ({role:?}): {error}");
        std::process::abort();
    }
}

pub(crate) fn apply(role: Role, facts: Facts) -> Result<(), Error> {
    seccompiler::apply_filter(&no_clone3()?)?;
    Ok(seccompiler::apply_filter(&program(role, facts)?)?)
}

/// `clone3` is answered as by a kernel that has none, so that the C library takes `clone`.
fn no_clone3() -> Result<BpfProgram, Error> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, absent, TargetArch::x86_64)?.try_into()?)
}

fn program(role: Role, facts: Facts) -> Result<BpfProgram, Error> {
    let otherwise = match role {
        Role::Launcher => SeccompAction::Errno(Errno::EPERM as u32),
        _ => SeccompAction::Trap,
    };
    let mut rules = rules(&role.lists(facts))?;
    if role != Role::Launcher {
        // A thread signals those of its own process; what the launcher starts is another one.
        let own = u64::from(std::process::id());
        let (length, operator) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
        let to_own = SeccompCondition::new(0, length, operator, own)?;
        rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![to_own])?]);
    }
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

fn rules(lists: &[List]) -> Result<BTreeMap<i64, Vec<SeccompRule>>, Error> {
    let mut conditions: BTreeMap<i64, Option<Vec<When>>> = BTreeMap::new();
    for (call, when) in lists.iter().copied().flatten() {
        let entry = conditions.entry(*call).or_insert_with(|| Some(Vec::new()));
        match (when, entry) {
            (Some(when), Some(known)) => known.push(*when),
            // Allowed in any case, whatever other lists say.
            (None, entry) => *entry = None,
            (Some(_), None) => {}
        }
    }
    let rule = |when: &When| {
        let (argument, operator, value) = match *when {
            When::Is(argument, value) => (argument, SeccompCmpOp::Eq, value),
            When::Null(argument) => (argument, SeccompCmpOp::Eq, 0),
            When::Bits(argument, mask, value) => (argument, SeccompCmpOp::MaskedEq(mask), value),
        };
        // The kernel itself looks at half of what is no address.
        let length = match when {
            When::Null(_) => SeccompCmpArgLen::Qword,
            When::Is(..) | When::Bits(..) => SeccompCmpArgLen::Dword,
        };
        let condition = SeccompCondition::new(argument, length, operator, value)?;
        SeccompRule::new(vec![condition])
    };
    let mut rules = BTreeMap::new();
    for (call, conditions) in conditions {
        let alternatives = conditions.unwrap_or_default();
        rules.insert(call, alternatives.iter().map(rule).collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Facts = Facts { network: true, reads_directories: true, writes_directories: true };
    const NONE: Facts =
        Facts { network: false, reads_directories: false, writes_directories: false };

    #[test]
    fn every_role_has_a_filter_that_the_kernel_can_take() {
        for role in Role::ALL {
            for facts in [ALL, NONE] {
                let length = program(role, facts).unwrap().len();
                assert!((10..4096).contains(&length), "{role:?}: {length}");
            }
        }
    }

    #[test]
    fn only_the_launcher_starts_programs_and_nobody_does_what_is_never_needed() {
        let never = [
            libc::SYS_ptrace,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_chroot,
            libc::SYS_pivot_root,
            libc::SYS_open_by_handle_at,
            libc::SYS_init_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
        ];
        for role in Role::ALL {
            let rules = rules(&role.lists(ALL)).unwrap();
            for call in never {
                assert!(!rules.contains_key(&call), "{role:?}: {call}");
            }
            let starts = rules.contains_key(&libc::SYS_execve);
            assert_eq!(starts, role == Role::Launcher, "{role:?}");
        }
    }

    #[test]
    fn what_is_not_granted_is_on_no_list() {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Launcher) {
            let rules = rules(&role.lists(NONE)).unwrap();
            for call in [libc::SYS_connect, libc::SYS_mkdirat, libc::SYS_fchownat] {
                assert!(!rules.contains_key(&call), "{role:?}: {call}");
            }
        }
    }

    #[test]
    fn a_role_can_do_nothing_that_its_creator_cannot_hand_on() {
        let main = Role::ALL.into_iter().filter(|role| *role != Role::Launcher);
        let of_main = main.map(|role| (Role::Main, role));
        let of_machine = [Role::Processor, Role::Device].map(|role| (Role::Machine, role));
        for (creator, role) in of_main.chain(of_machine) {
            let can = rules(&creator.lists(ALL)).unwrap();
            for call in rules(&role.lists(ALL)).unwrap().keys() {
                assert!(can.contains_key(call), "{creator:?}, {role:?}: {call}");
            }
        }
    }
}
