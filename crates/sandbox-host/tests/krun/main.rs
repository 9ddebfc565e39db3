//! Linux on krun, up to programs that use its devices: the smoke test where the rest of the suite
//! cannot run because the host emulates its guests' kernel mode. There it takes a minute.
//!
//! What it boots is named by the environment: LANEBOX_TEST_KVM_KERNEL (a vmlinux that comes up on such a
//! host, of `scripts/build-kernel --test-variant`), LANEBOX_TEST_INITRAMFS and LANEBOX_TEST_ROOT.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use blockcow::{Disk, ImageFormat};
use engine::probe::EngineKind;
use engine::{DiskSpec, ExitReason, FilesystemSpec, NetworkSpec, Vm, VmSpec};
use futures::stream;
use protocol::guest::v1::{ConfigureRequest, InterfaceAddress, Mount, Network, RootFilesystem};
use protocol::v1::{RunRequest, StartProcess, run_request, run_response};
use sandbox_host::guest::{Guest, GuestError};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use vfs::Observer;
use vfs::fuse::{Limits, Server};
use vfs::host_dir::{Access, HostDir, HostDirOptions};

/// Longest that the whole of it may take; kernel mode may run at a thousandth of its speed.
const PATIENCE: Duration = Duration::from_secs(400);
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

#[tokio::test]
#[ignore = "boots a VM"]
async fn linux_boots_on_krun_and_uses_its_devices() {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        println!("skipped: linux_boots_on_krun_and_uses_its_devices: /dev/kvm: {error}");
        return;
    }
    let console = Arc::new(Mutex::new(Vec::new()));
    let tried = timeout(PATIENCE, boot_and_use(console.clone())).await;
    let said = String::from_utf8_lossy(&console.lock().unwrap()).into_owned();
    tried.unwrap_or_else(|_| panic!("not within {PATIENCE:?}; the console says: {said}"));
}

async fn boot_and_use(console: Arc<Mutex<Vec<u8>>>) {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("from-host"), "hello guest").unwrap();
    let (frames, _peer) = UnixStream::pair().unwrap();
    let mut vm = engine::start(EngineKind::Krun, spec(shared.path(), frames)).await.unwrap();
    keep_console(&mut vm, console.clone());
    let guest = Guest::connect(vm.take_control()).await.unwrap();
    let said = || String::from_utf8_lossy(&console.lock().unwrap()).into_owned();
    tokio::select! {
        biased;
        exit = vm.wait() => panic!("{exit:?}; the console says: {}", said()),
        () = use_devices(&guest, shared.path()) => {}
    }
    assert_eq!(guest.shutdown(Duration::from_secs(5)).await.unwrap(), Vec::<String>::new());
    guest.disconnect();
    let exit = vm.wait().await;
    // The reset is an int3 that nobody handles, which hosts that emulate kernel mode refuse.
    let is_refused =
        exit.reason == ExitReason::Failed && exit.last_words.contains("could not emulate");
    let ended = exit.reason == ExitReason::GuestReset || is_refused;
    assert!(ended, "{exit:?}; the console says: {}", said());
}

async fn use_devices(guest: &Guest, shared: &Path) {
    there(guest.heard().await).await;
    let (release, warnings) = there(guest.configure(configuration(), |_| {}).await).await;
    assert!(release.starts_with("6.1."), "{release}");
    assert_eq!(warnings, Vec::<String>::new());

    let script = "cat /mnt/shared/from-host; echo hello host > /mnt/shared/from-guest; \
                  cat /etc/hostname /sys/class/net/eth0/address /sys/class/net/eth0/mtu; \
                  ls -d /sys/block/vd*; nproc";
    let (stdout, code) = shell(guest, script).await;
    let expected = "hello guestsandbox\n02:00:00:00:00:01\n1500\n/sys/block/vda\n1\n";
    assert_eq!((stdout.as_str(), code), (expected, Some(0)));
    assert_eq!(fs::read_to_string(shared.join("from-guest")).unwrap(), "hello host\n");

    // Network 1, block 2, console 3, entropy 4, balloon 5, filesystem 26 (virtio 1.2, 5), and no
    // other: no vsock, no second network device.
    let (devices, _) = shell(guest, "cat /sys/bus/virtio/devices/*/device").await;
    let mut devices = devices.lines().collect::<Vec<_>>();
    devices.sort_unstable();
    assert_eq!(devices, ["0x0001", "0x0002", "0x0003", "0x0004", "0x0005", "0x001a"]);
}

fn spec(shared: &Path, frames: UnixStream) -> VmSpec {
    let open = |name: &str| {
        let path = std::env::var(name).unwrap_or_else(|_| panic!("{name} must name a file"));
        File::open(path).unwrap()
    };
    let disk = Disk::open(open("LANEBOX_TEST_ROOT"), ImageFormat::Qcow2).unwrap();
    let directory = HostDirOptions::new(shared, Access::ReadWrite);
    let directory = HostDir::new(directory, &Observer::log()).unwrap();
    VmSpec {
        cpus: 1,
        memory_mib: 128,
        kernel: open("LANEBOX_TEST_KVM_KERNEL"),
        initramfs: open("LANEBOX_TEST_INITRAMFS"),
        control_port: "lanebox.control".to_owned(),
        disks: vec![DiskSpec { serial: "root".to_owned(), disk: Arc::new(disk) }],
        filesystems: vec![FilesystemSpec {
            tag: "shared".to_owned(),
            server: Arc::new(Server::new(directory, Limits::default(), Observer::log())),
        }],
        network: Some(NetworkSpec { frames, mac: MAC, mtu: 1500 }),
    }
}

fn configuration() -> ConfigureRequest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    ConfigureRequest {
        root: Some(RootFilesystem {
            device: "/dev/vda".into(),
            r#type: "ext4".into(),
            read_only: true,
            ..RootFilesystem::default()
        }),
        hostname: "sandbox".into(),
        time_unix_nanos: now.as_nanos().try_into().unwrap(),
        cwd: "/".into(),
        env: HashMap::default(),
        mounts: vec![Mount {
            tag: "shared".into(),
            target: "/mnt/shared".into(),
            ..Mount::default()
        }],
        network: Some(Network {
            mtu: 1500,
            addresses: vec![InterfaceAddress { ip: "10.0.2.15".into(), prefix_length: 24 }],
            ..Network::default()
        }),
    }
}

/// Reads the console as it must be read, and keeps it for whoever wants to know why.
fn keep_console(vm: &mut Vm, kept: Arc<Mutex<Vec<u8>>>) {
    let mut stream = vm.take_console();
    tokio::spawn(async move {
        let mut bytes = vec![0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut bytes).await {
            kept.lock().unwrap().extend_from_slice(&bytes[..read]);
        }
    });
}

/// What the guest answered. When the machine has ended, whoever waits for that tells why.
async fn there<T>(answer: Result<T, GuestError>) -> T {
    match answer {
        Ok(answer) => answer,
        Err(GuestError::Lost) => std::future::pending().await,
        Err(error) => panic!("{error:?}"),
    }
}

/// Runs a script of the shell to its end.
async fn shell(guest: &Guest, script: &str) -> (String, Option<u32>) {
    let start = StartProcess {
        command: "sh".into(),
        args: vec!["-c".into(), script.into()],
        ..StartProcess::default()
    };
    let request = RunRequest { request: Some(run_request::Request::Start(start)) };
    let mut answers = there(guest.run(stream::iter([request])).await).await;
    let (mut stdout, mut code) = (Vec::new(), None);
    while let Some(answer) = there(answers.next().await).await {
        match answer {
            run_response::Response::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            run_response::Response::Exited(exited) => code = exited.exit_code,
            _ => {}
        }
    }
    (String::from_utf8(stdout).unwrap(), code)
}
