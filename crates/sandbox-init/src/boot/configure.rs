//! The steps of `Configure`, one after another. Each blocks the one thread: until the last has
//! succeeded there is nothing else to do, and the host has its own deadline for the boot.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};
use nix::unistd::{chdir, chroot};

use super::cgroup::{self, Workload};
use super::check::E2FSCK;
use super::mounts::{self, Mount};
use super::root::{self, NEW_ROOT};
use super::settings::Settings;
use super::step::{Failure, Step, While};
use super::{files, filesystems, names, network};
use crate::error::Error;
use crate::filesystems::Filesystems;
use crate::machine::Lane;
use crate::process::DEFAULT_PATH;
use crate::process::terminal::Terminals;
use crate::sys::ioctl::interface_up;

/// Kernel settings that distributions make and the kernel does not: ping without privileges, and no
/// tricks with links and FIFOs in world-writable directories (systemd's 50-default.conf).
const SYSCTLS: [(&str, &str); 5] = [
    ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ("/proc/sys/fs/protected_hardlinks", "1"),
    ("/proc/sys/fs/protected_symlinks", "1"),
    ("/proc/sys/fs/protected_fifos", "1"),
    ("/proc/sys/fs/protected_regular", "2"),
];

/// Who hears of a step before it is tried.
pub(crate) trait Announce {
    /// Returns when the host has been told, or cannot be.
    fn announce(&mut self, step: Step) -> impl Future<Output = ()> + Send;
}

/// Sets the clock. Not a step by itself: the handler of the call does it at once.
pub(crate) fn set_clock(time: TimeSpec) -> Result<(), Failure> {
    clock_settime(ClockId::CLOCK_REALTIME, time).during(|| "Setting the clock".into())
}

/// Takes the steps; what the owner should know comes with the lane. `clock` is how setting the clock went; what the host serves goes to `mounted`.
pub(crate) async fn run(
    settings: Settings,
    clock: Result<(), Failure>,
    mounted: &Filesystems,
    announcer: &mut impl Announce,
) -> Result<(Lane, Option<String>), Error> {
    let read_only = settings.root.read_only;
    let (mut workload, mut terminals, mut warning) = (None, None, None);
    let steps: [Step; 16] = [
        Step::Clock,
        Step::CheckRoot,
        Step::MountRoot,
        Step::EnterRoot,
        Step::MountDevices,
        Step::MountCgroup,
        Step::MountTmpfs,
        Step::Hostname,
        Step::Hosts,
        Step::Loopback,
        Step::Network,
        Step::Resolver,
        Step::CertificateAuthority,
        Step::Limits,
        Step::Mounts,
        Step::WorkingDirectory,
    ];
    let network = settings.network.as_ref();
    let authority = network.and_then(|network| network.authority.as_ref());
    for step in steps {
        if !is_needed(step, &settings) {
            continue;
        }
        announcer.announce(step).await;
        let taken = match step {
            Step::Clock => clock.clone(),
            Step::CheckRoot => root::check(&settings.root).await.map(|told| warning = told),
            Step::MountRoot => root::mount(&settings.root),
            Step::EnterRoot => enter_root(read_only),
            Step::MountDevices => mount_devices(&mut terminals),
            Step::MountCgroup => mount_cgroup(&mut workload),
            Step::MountTmpfs => mount_tmpfs(read_only),
            Step::Hostname => names::set(&settings.hostname),
            Step::Hosts => names::write(&settings.hostname, read_only),
            Step::Loopback => loopback(),
            Step::Network => match network {
                Some(network) => network::set_up(network).await,
                None => Ok(()),
            },
            Step::Resolver => {
                network.map_or(Ok(()), |network| network::write_resolver(network, read_only))
            }
            Step::CertificateAuthority => {
                authority.map_or(Ok(()), |authority| network::install(authority, read_only))
            }
            Step::Limits => SYSCTLS.iter().try_for_each(|(path, value)| files::set(path, value)),
            Step::Mounts => filesystems::mount_all(&settings.served, mounted),
            Step::WorkingDirectory => working_directory(&settings),
        };
        taken.map_err(|failure| failure.of(step))?;
    }
    let mut env = settings.env;
    if authority.is_some() {
        for (name, path) in network::variables() {
            env.entry(name).or_insert(path);
        }
    }
    env.entry(c"PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    Ok((Lane { cwd: settings.cwd, env, workload, terminals }, warning))
}

/// Without a network nothing of it is set up.
fn is_needed(step: Step, settings: &Settings) -> bool {
    let network = settings.network.as_ref();
    match step {
        Step::Network | Step::Resolver => network.is_some(),
        Step::CertificateAuthority => network.is_some_and(|network| network.authority.is_some()),
        _ => true,
    }
}

/// Read Documentation/filesystems/ramfs-rootfs-initramfs.rst: the first root cannot be unmounted or
/// pivoted away from, so the new one is moved over it.
fn enter_root(read_only: bool) -> Result<(), Failure> {
    for mount in [Mount::DEV, Mount::PROC, Mount::SYS] {
        let target = format!("{NEW_ROOT}{}", mount.target);
        mounts::require_directory(&target, read_only)?;
        mounts::move_to(mount.target, &target)?;
    }
    // The running program stays in memory without its name.
    for file in ["/init", E2FSCK] {
        fs::remove_file(file).during(|| format!("Removing {file} of the initramfs"))?;
    }
    chdir(NEW_ROOT).during(|| format!("Entering {NEW_ROOT}"))?;
    mounts::move_to(".", "/")?;
    chroot(".").during(|| "Changing the root".into())?;
    chdir("/").during(|| "Entering /".into())?;
    // Mounts travel into namespaces that are made later, as under systemd.
    let shared = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(None::<&str>, "/", None::<&str>, shared, None::<&str>)
        .during(|| "Making mounts shared".into())
}

fn mount_devices(terminals: &mut Option<Terminals>) -> Result<(), Failure> {
    for mount in [Mount::PTS, Mount::SHM, Mount::MQUEUE] {
        mounts::make_directory(mount.target)?;
        mounts::mount(&mount)?;
    }
    *terminals = Some(Terminals::open().during(|| "Opening /dev/pts".into())?);
    for (target, path) in [
        ("pts/ptmx", "/dev/ptmx"),
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ] {
        mounts::link(target, path)?;
    }
    // What udev's rules open to everybody; the kernel makes them for root alone.
    for path in ["/dev/fuse", "/dev/net/tun", "/dev/vsock"] {
        match fs::set_permissions(path, fs::Permissions::from_mode(0o666)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.during(|| format!("Setting the mode of {path}"))?,
        }
    }
    Ok(())
}

fn mount_cgroup(workload: &mut Option<Workload>) -> Result<(), Failure> {
    *workload = Some(cgroup::mount()?);
    Ok(())
}

fn mount_tmpfs(read_only: bool) -> Result<(), Failure> {
    let all = [Mount::TMP, Mount::RUN, Mount::MNT];
    for mount in all.iter().filter(|mount| read_only || mount.target != Mount::MNT.target) {
        mounts::require_directory(mount.target, read_only)?;
        mounts::mount(mount)?;
    }
    // Where /var/lock points in Debian and its relatives.
    mounts::make_directory("/run/lock")?;
    fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777))
        .during(|| "Setting the mode of /run/lock".into())
}

/// The kernel gives the interface 127.0.0.1 and ::1 when it comes up.
fn loopback() -> Result<(), Failure> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .during(|| "Opening a socket".into())?;
    interface_up(&socket, "lo").during(|| "Bringing lo up".into())
}

fn working_directory(settings: &Settings) -> Result<(), Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(settings.cwd.as_c_str(), flags, nix::sys::stat::Mode::empty())
        .map(drop)
        .during(|| format!("Working directory {:?}", settings.cwd.to_string_lossy()))
}
