//! QEMU's command line, for 7.2 and newer: a `microvm` with everything it needs over inherited
//! descriptors, and nothing else.

use std::os::fd::RawFd;

use crate::device_queues::FILESYSTEM_QUEUES;

/// Descriptors of a filesystem's queue, the most that QEMU allows. Linux makes no larger requests
/// than a queue has descriptors, less four: QEMU's default of 128 would not do for 1 MiB, which is
/// 256 pages.
const RING_SIZE: u16 = 1024;

/// Host memory for translated code. QEMU's own default is up to 1 GiB, which a machine of 512 MiB
/// would come to use beside its memory; when it is full QEMU drops it all and starts anew.
const TRANSLATION_CACHE_MIB: u32 = 256;

/// The x86-64-v2 instructions, which today's binaries may expect, and a source of random numbers.
/// No AVX, and no fast `rep movsb`: both are slower than what programs do without them, when
/// emulated.
const PROCESSOR: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+arat,+rdrand";

/// virtio devices that a microvm has room for as it is, on the pins of its I/O APIC that it has to
/// spare.
const TRANSPORTS: usize = 8;
/// The same on a second I/O APIC. QEMU has one only in a machine with ACPI. The guest knows none of
/// that: its kernel is told where the devices are, and the firmware is the one of other microvms,
/// which is quick and leaves tables for several processors.
const SECOND_TRANSPORTS: usize = 24;
/// Those that every machine has: ports, and random numbers.
const FIXED_DEVICES: usize = 2;

/// What the command line is made from. Names are checked to hold no comma.
#[derive(Debug)]
pub(super) struct CommandLine<'a> {
    pub(super) cpus: u32,
    pub(super) memory_mib: u32,
    pub(super) kernel_parameters: &'a str,
    pub(super) second_ioapic: bool,
    pub(super) control_port: &'a str,
    pub(super) kernel: RawFd,
    pub(super) initramfs: RawFd,
    pub(super) console: RawFd,
    pub(super) control: RawFd,
    pub(super) monitor: RawFd,
    /// One connected vhost-user socket each, in the order the guest is to see them.
    pub(super) disks: &'a [RawFd],
    pub(super) disk_queues: u16,
    /// Tags, and a connected vhost-user socket each.
    pub(super) filesystems: &'a [(String, RawFd)],
    pub(super) network: Option<NetworkDevice>,
}

/// A network device that is served elsewhere.
#[derive(Debug)]
pub(super) struct NetworkDevice {
    /// A connected stream socket.
    pub(super) frames: RawFd,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u16,
}

/// The transports of the second I/O APIC that a machine with so many devices of its own takes, in
/// the order in which the devices come; none when it does without.
pub(super) fn second_transports(devices: usize) -> Vec<usize> {
    let devices = FIXED_DEVICES + devices;
    // QEMU puts the first device on the last one.
    let taken = if devices > TRANSPORTS { devices } else { 0 };
    (0..SECOND_TRANSPORTS).rev().take(taken).collect()
}

impl CommandLine<'_> {
    /// All arguments after the program's name.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut list = Arguments::default();
        self.confinement(&mut list);
        self.machine(&mut list);
        self.boot(&mut list);
        self.consoles(&mut list);
        self.devices(&mut list);
        list.0
    }

    fn confinement(&self, list: &mut Arguments) {
        list.flag("-nodefaults")
            .flag("-no-user-config")
            .flag("-no-reboot")
            .pair("-display", "none");
        // Held until the keeper hears QMP; see there.
        list.flag("-S");
        let denied = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";
        list.pair("-sandbox", denied);
    }

    fn machine(&self, list: &mut Arguments) {
        let Self { cpus, memory_mib, .. } = self;
        list.pair("-accel", format!("tcg,thread=multi,tb-size={TRANSLATION_CACHE_MIB}"));
        // The RTC saves the guest 1.6 s of looking for a clock; the PIT is needless beside a local
        // APIC timer that never stops (`arat`). Guest memory is nobody's business in a core file.
        // Shared, because the servers of vhost-user devices map it too.
        let machine = "microvm,rtc=on,pit=off,dump-guest-core=off,memory-backend=memory";
        if self.second_ioapic {
            list.pair("-machine", format!("{machine},acpi=on,ioapic2=on"));
            list.pair("-bios", "qboot.rom");
        } else {
            list.pair("-machine", format!("{machine},acpi=off"));
        }
        list.pair("-object", format!("memory-backend-memfd,id=memory,size={memory_mib}M,share=on"));
        list.pair("-m", format!("{memory_mib}M"));
        list.pair("-smp", format!("{cpus},sockets=1,cores={cpus},threads=1"));
        list.pair("-cpu", PROCESSOR);
        // virtio 1.2; the legacy layout is the default of this transport and has no vhost-user-fs.
        list.pair("-global", "virtio-mmio.force-legacy=false");
    }

    fn boot(&self, list: &mut Arguments) {
        list.pair("-kernel", inherited(self.kernel)).pair("-initrd", inherited(self.initramfs));
        list.pair("-append", self.kernel_parameters);
    }

    fn consoles(&self, list: &mut Arguments) {
        list.pair("-chardev", socket("console", self.console)).pair("-serial", "chardev:console");
        list.pair("-chardev", socket("monitor", self.monitor));
        list.pair("-mon", "chardev=monitor,mode=control");
    }

    fn devices(&self, list: &mut Arguments) {
        list.pair("-device", "virtio-serial-device,max_ports=2");
        list.pair("-chardev", socket("control", self.control));
        let port = format!("virtserialport,chardev=control,name={}", self.control_port);
        list.pair("-device", port);
        list.pair("-device", "virtio-rng-device");
        let queues = self.disk_queues;
        for (index, fd) in self.disks.iter().enumerate() {
            list.pair("-chardev", socket(&format!("disk{index}"), *fd));
            list.pair("-device", format!("vhost-user-blk,chardev=disk{index},num-queues={queues}"));
        }
        for (index, (tag, fd)) in self.filesystems.iter().enumerate() {
            list.pair("-chardev", socket(&format!("fs{index}"), *fd));
            let queues = format!("num-request-queues={FILESYSTEM_QUEUES},queue-size={RING_SIZE}");
            let device = format!("vhost-user-fs-device,chardev=fs{index},tag={tag},{queues}");
            list.pair("-device", device);
        }
        if let Some(NetworkDevice { frames, mac, mtu }) = &self.network {
            let netdev = "stream,id=network,server=off,addr.type=fd";
            list.pair("-netdev", format!("{netdev},addr.str={frames}"));
            let [a, b, c, d, e, f] = mac;
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            // The largest rings: a frame of the largest size takes 17 pages of one.
            let rings = "rx_queue_size=1024,tx_queue_size=256";
            let device = format!("virtio-net-device,netdev=network,mac={mac},host_mtu={mtu}");
            list.pair("-device", format!("{device},{rings}"));
        }
    }
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn pair(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([name.to_owned(), value.into()]);
        self
    }
}

fn inherited(fd: RawFd) -> String {
    format!("/proc/self/fd/{fd}")
}

fn socket(id: &str, fd: RawFd) -> String {
    format!("socket,id={id},fd={fd}")
}
