//! What a machine is to be: the engine-neutral description, checked once.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use blockcow::Disk;
use vfs::fuse::Serve;

use crate::error::SpecError;

/// A virtual machine to start. The files and disks are the engine's from then on.
#[derive(Debug)]
pub struct VmSpec {
    /// Virtual processors, 1 to [`VmSpec::MAX_CPUS`]. More than the host has are allowed; they
    /// share what is there.
    pub cpus: u32,
    /// Guest memory in MiB, [`VmSpec::MIN_MEMORY_MIB`] to [`VmSpec::MAX_MEMORY_MIB`]. It is taken
    /// from the host as the guest touches it, not at once.
    pub memory_mib: u32,
    /// The kernel: an uncompressed x86-64 ELF `vmlinux` with a PVH entry. QEMU takes a bzImage, too;
    /// krun needs no PVH entry.
    pub kernel: File,
    /// The initial file system: a cpio archive, best uncompressed.
    pub initramfs: File,
    /// Name of the virtio-console port whose host end is [`crate::Vm::take_control`]: 1 to 64
    /// letters, digits, dots, dashes and underscores.
    pub control_port: String,
    /// Block devices, in the order the guest names them: /dev/vda, /dev/vdb, … At most
    /// [`VmSpec::MAX_DISKS`].
    pub disks: Vec<DiskSpec>,
    /// Filesystems that the guest can mount, at most [`VmSpec::MAX_FILESYSTEMS`].
    pub filesystems: Vec<FilesystemSpec>,
    /// The network device, "eth0" to the guest. Absent: there is none.
    pub network: Option<NetworkSpec>,
}

/// One block device.
#[derive(Debug)]
pub struct DiskSpec {
    /// What the guest reads in /sys/block/vdX/serial: 1 to 20 letters, digits, dots, dashes and
    /// underscores (virtio 1.2, 5.2.6: 20 bytes).
    pub serial: String,
    /// What is on it.
    pub disk: Arc<Disk>,
}

/// A network device.
#[derive(Debug)]
pub struct NetworkSpec {
    /// The machine's end of a connected stream socket. Each Ethernet frame, in either direction, has
    /// its length before it: 4 bytes, the highest first.
    pub frames: UnixStream,
    /// Hardware address of the guest; not that of a group.
    pub mac: [u8; 6],
    /// Bytes of the largest packet, [`VmSpec::MIN_MTU`] to [`VmSpec::MAX_MTU`].
    pub mtu: u16,
}

/// One filesystem.
pub struct FilesystemSpec {
    /// What the guest mounts it by (`mount -t virtiofs TAG DIR`): 1 to 36 letters, digits, dots,
    /// dashes and underscores (virtio 1.2, 5.11.4: 36 bytes), another one for each.
    pub tag: String,
    /// What answers its requests. It is reset whenever the guest begins anew.
    pub server: Arc<dyn Serve>,
}

impl fmt::Debug for FilesystemSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesystemSpec").field("tag", &self.tag).finish_non_exhaustive()
    }
}

impl VmSpec {
    /// Most virtual processors: what our kernel is built for (`CONFIG_NR_CPUS`).
    pub const MAX_CPUS: u32 = 64;
    /// Least memory: our kernel and init do not come up in less.
    pub const MIN_MEMORY_MIB: u32 = 64;
    /// Most memory: 1 TiB, the 40 address bits that an emulated processor has.
    pub const MAX_MEMORY_MIB: u32 = 1024 * 1024 - 1024;
    /// Most disks: what the virtio-mmio slots of a microvm leave beside the other devices.
    pub const MAX_DISKS: usize = 4;
    /// Most filesystems, likewise.
    pub const MAX_FILESYSTEMS: usize = 16;
    /// Least size of the largest packet: what IPv6 needs (RFC 8200, 5).
    pub const MIN_MTU: u16 = 1280;
    /// Most size of the largest packet: what engines carry in a frame.
    pub const MAX_MTU: u16 = 65_520;

    /// Everything that can be said without looking at the host.
    pub(crate) fn check(&self) -> Result<(), SpecError> {
        in_range("cpus", self.cpus, 1, Self::MAX_CPUS)?;
        in_range("memory_mib", self.memory_mib, Self::MIN_MEMORY_MIB, Self::MAX_MEMORY_MIB)?;
        plain_name("control_port", &self.control_port, 64)?;
        no_more("disks", self.disks.len(), Self::MAX_DISKS)?;
        self.disks.iter().try_for_each(|disk| plain_name("disks.serial", &disk.serial, 20))?;
        no_more("filesystems", self.filesystems.len(), Self::MAX_FILESYSTEMS)?;
        self.network.iter().try_for_each(NetworkSpec::check)?;
        let mut tags = HashSet::new();
        self.filesystems.iter().try_for_each(|FilesystemSpec { tag, .. }| {
            plain_name("filesystems.tag", tag, 36)?;
            if tags.insert(tag) {
                return Ok(());
            }
            let reason = "another filesystem has it too".to_owned();
            Err(SpecError { option: "filesystems.tag", value: format!("{tag:?}"), reason })
        })
    }
}

impl NetworkSpec {
    fn check(&self) -> Result<(), SpecError> {
        let (low, high) = (VmSpec::MIN_MTU.into(), VmSpec::MAX_MTU.into());
        in_range("network.mtu", self.mtu.into(), low, high)?;
        if self.mac[0] & 1 == 0 && self.mac != [0; 6] {
            return Ok(());
        }
        let reason = "it must be the address of one device".to_owned();
        Err(SpecError { option: "network.mac", value: format!("{:02x?}", self.mac), reason })
    }
}

fn no_more(option: &'static str, length: usize, most: usize) -> Result<(), SpecError> {
    if length <= most {
        return Ok(());
    }
    let reason = format!("at most {most} are possible");
    Err(SpecError { option, value: format!("a list of {length}"), reason })
}

fn in_range(option: &'static str, value: u32, low: u32, high: u32) -> Result<(), SpecError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let reason = format!("it must be from {low} to {high}");
    Err(SpecError { option, value: value.to_string(), reason })
}

/// These names become part of an option list where a comma would begin another option.
fn plain_name(option: &'static str, value: &str, max: usize) -> Result<(), SpecError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if (1..=max).contains(&value.len()) && value.bytes().all(plain) {
        return Ok(());
    }
    let reason =
        format!("it must be 1 to {max} ASCII letters, digits, dots, dashes and underscores");
    Err(SpecError { option, value: format!("{value:?}"), reason })
}
