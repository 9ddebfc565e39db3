//! Real boots in QEMU. Run with `cargo test -p sandbox-init --test boot -- --ignored` and the three
//! variables that `support` names.

mod support;

use std::process::Command;

use futures::stream;
use protocol::ErrorCode;
use protocol::guest::v1::{InterfaceAddress, Mount, Network, SetClockRequest};
use protocol::v1::{RunRequest, run_request};
use support::{Vm, request, sh};
use tokio::task::JoinSet;
use tonic::Status;

fn code(status: &Status) -> ErrorCode {
    protocol::status::detail(status).unwrap_or_else(|| panic!("{status:?}")).code()
}

#[track_caller]
fn assert_lines(text: &str, wanted: &[&str]) {
    for line in wanted {
        assert!(text.lines().any(|found| found.trim() == *line), "{line:?} is not in\n{text}");
    }
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn read_only_root_becomes_an_ordinary_linux() {
    let mut vm = Vm::boot(1, false).await;
    assert_lines(
        &vm.shell("cat /proc/self/mounts | cut -d' ' -f2-3; cat /proc/self/cgroup").await,
        &[
            "/ ext4",
            "/dev devtmpfs",
            "/proc proc",
            "/sys sysfs",
            "/dev/pts devpts",
            "/dev/shm tmpfs",
            "/dev/mqueue mqueue",
            "/sys/fs/cgroup cgroup2",
            "/tmp tmpfs",
            "/run tmpfs",
            "/mnt tmpfs",
            "0::/workload",
        ],
    );
    assert_lines(
        &vm.shell("hostname; cat /etc/hosts /etc/hostname; ls /; env").await,
        &["sandbox", "127.0.0.1\tlocalhost sandbox", "LANE=one", "HOME=/root"],
    );
    vm.shell("touch /tmp/x /run/x /mnt/x /dev/shm/x /run/lock/x && ! touch /x").await;
    vm.shell("echo x > /dev/stdout && test -c /dev/ptmx && test -d /dev/fd && ps && df").await;
    vm.shell("ping -c 1 127.0.0.1 && ping -c 1 ::1 && ping -c 1 sandbox").await;
    // The initramfs is not reachable, and nothing of it is shown.
    assert_eq!(vm.shell("ls /newroot /init 2>/dev/null || true").await, "");
    assert!(vm.shell("cat /proc/self/mountinfo").await.contains("shared:"));
    assert_eq!(vm.shutdown().await, Vec::<String>::new());
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn network_is_there_when_processes_run() {
    let address = |ip: &str, prefix_length| InterfaceAddress { ip: ip.into(), prefix_length };
    let network = Network {
        mtu: 1400,
        addresses: vec![address("10.0.2.15", 24), address("fd00::15", 64)],
        gateways: vec!["10.0.2.1".into(), "fd00::1".into()],
        resolvers: vec!["10.0.2.1".into()],
        certificate_authority: "-----BEGIN CERTIFICATE-----\nours\n".into(),
        certificate_link: "0123abcd.0".into(),
    };
    for writable in [false, true] {
        let mut vm = Vm::start(1, writable).await;
        let mut request = request(!writable);
        request.network = Some(network.clone());
        request.env.insert("PIP_CERT".into(), "/mine".into());
        let steps = vm.configure(request).await.unwrap();
        for step in ["network", "resolver", "certificate-authority"] {
            assert!(steps.iter().any(|taken| taken == step), "{steps:?}");
        }
        assert_lines(
            &vm.shell("ip -o addr show eth0 | tr -s ' ' | cut -d' ' -f3-4; ip route; ip -6 route show default").await,
            &["inet 10.0.2.15/24", "inet6 fd00::15/64", "default via 10.0.2.1 dev eth0", "default via fd00::1 dev eth0  metric 1024"],
        );
        // Used at once: an address in doubt would not be bound.
        assert_lines(
            &vm.shell("cat /etc/resolv.conf /sys/class/net/eth0/mtu").await,
            &["nameserver 10.0.2.1", "1400"],
        );
        assert!(!vm.shell("ip -o addr show eth0").await.contains("tentative"));
        let env = vm.shell("env; cat $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS | grep -c ours").await;
        assert_lines(&env, &["PIP_CERT=/mine", "2"]);
        assert_eq!(vm.shutdown().await, Vec::<String>::new());
    }
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn writable_root_is_clean_after_a_shutdown() {
    let mut vm = Vm::boot(1, true).await;
    vm.shell(
        "echo kept > /kept; grep sandbox /etc/hosts; test -e /etc/mtab; mount | grep ' on / '",
    )
    .await;
    vm.shell("mkdir /a && mount -t tmpfs none /a && mkdir /a/b && mount -t tmpfs none /a/b").await;
    assert_eq!(vm.shutdown().await, Vec::<String>::new());
    let disk = vm.raw_disk();
    let state = Command::new("dumpe2fs").arg("-h").arg(&disk).output().unwrap();
    let state = String::from_utf8(state.stdout).unwrap();
    assert!(state.contains("Filesystem state:         clean"), "{state}");
    assert!(!state.contains("needs_recovery"), "{state}");
    let checked = Command::new("e2fsck").arg("-fn").arg(&disk).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let kept = Command::new("debugfs").args(["-R", "cat /kept"]).arg(&disk).output().unwrap();
    assert_eq!(kept.stdout, b"kept\n");
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn steps_are_announced_in_order_and_configure_works_once() {
    let mut vm = Vm::start(1, false).await;
    assert_eq!(code(&vm.run(sh("true")).await.unwrap_err()), ErrorCode::InvalidArgument);
    let mut malformed = request(true);
    malformed.hostname = "-".into();
    let refused = vm.configure(malformed).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::InvalidArgument);
    let steps = vm.configure(request(true)).await.unwrap();
    let expected = "clock check-root mount-root enter-root mount-devices mount-cgroup mount-tmpfs hostname \
        hosts loopback limits mounts working-directory";
    assert_eq!(steps.join(" "), expected);
    let again = vm.configure(request(true)).await.unwrap_err();
    assert_eq!(code(&again), ErrorCode::InvalidArgument);
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn failed_step_is_named_with_its_errno() {
    let mut no_cwd = request(true);
    no_cwd.cwd = "/no/such/folder".into();
    let mut file_cwd = request(true);
    file_cwd.cwd = "/etc/passwd".into();
    let mut no_disk = request(true);
    no_disk.root.as_mut().unwrap().device = "/dev/vdz".into();
    let mut wrong_type = request(true);
    wrong_type.root.as_mut().unwrap().r#type = "squashfs".into();
    let at = |target: &str| {
        let mut wrong = request(true);
        let (tag, target) = ("mount0".into(), target.into());
        wrong.mounts = vec![Mount { tag, target, ..Mount::default() }];
        wrong
    };
    for (wrong, step, errno, named) in [
        (at("/no/such"), "mounts", "EROFS", "/no is not there"),
        (at("/etc/passwd"), "mounts", "ENOTDIR", "/etc/passwd"),
        (at("/etc/passwd/in"), "mounts", "ENOTDIR", "/etc/passwd"),
        // The directory can be made, but no device has the tag.
        (at("/tmp/in/here"), "mounts", "EINVAL", "/tmp/in/here"),
        (no_cwd, "working-directory", "ENOENT", "/no/such/folder"),
        (file_cwd, "working-directory", "ENOTDIR", "/etc/passwd"),
        (no_disk, "check-root", "ENOENT", "/dev/vdz"),
        (wrong_type, "mount-root", "EINVAL", "/dev/vda"),
    ] {
        let mut vm = Vm::start(1, false).await;
        let status = vm.configure(wrong).await.unwrap_err();
        let detail = protocol::status::detail(&status).unwrap();
        assert_eq!(detail.code(), ErrorCode::BootFailed);
        assert_eq!((detail.step.as_str(), detail.errno.as_str()), (step, errno), "{detail:?}");
        assert!(detail.message.contains(named), "{detail:?}");
        // A machine that is broken can still be shut down.
        vm.shutdown().await;
    }
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn machine_without_a_control_port_says_so_and_resets() {
    let mut vm = Vm::start_with_port(1, false, "somebody.else").await;
    vm.ended().await;
    assert!(
        vm.console().contains("sandbox-init: step open-control-port failed"),
        "{}",
        vm.console()
    );
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn host_that_closes_the_channel_ends_the_machine() {
    let mut vm = Vm::boot(1, false).await;
    vm.close();
    vm.ended().await;
    assert!(vm.console().contains("closed the control channel"), "{}", vm.console());
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn clock_is_the_hosts() {
    let mut vm = Vm::boot(1, false).await;
    let nanos = 2_000_000_000_000_000_000;
    vm.guest.set_clock(SetClockRequest { time_unix_nanos: nanos }).await.unwrap();
    assert_eq!(&vm.shell("date +%s").await[..6], "200000");
    let refused = vm.guest.set_clock(SetClockRequest { time_unix_nanos: 0 }).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::InvalidArgument);
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn pid_1_outlives_every_signal_and_keeps_its_port() {
    let mut vm = Vm::boot(1, false).await;
    vm.shell("for s in $(seq 1 64); do kill -$s 1; done; true").await;
    vm.shell("! cat /dev/vport0p1 2>/tmp/why; grep -i busy /tmp/why").await;
    assert_eq!(
        vm.shell("ls /proc/1/fd 2>&1 | wc -l; echo alive").await.lines().last(),
        Some("alive")
    );
    assert_eq!(vm.shutdown().await, Vec::<String>::new());
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn orphans_are_reaped() {
    let vm = Vm::boot(1, false).await;
    vm.shell("for i in $(seq 1 50); do (sleep 0.05 &) ; done").await;
    vm.shell("while pidof sleep; do sleep 0.1; done >/dev/null; ! ps | grep -q '\\[sleep\\]'")
        .await;
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn many_processes_run_side_by_side() {
    let vm = std::sync::Arc::new(Vm::boot(2, false).await);
    let mut all = JoinSet::new();
    for index in 0..100 {
        let vm = std::sync::Arc::clone(&vm);
        all.spawn(async move {
            assert_eq!(vm.shell(&format!("sleep 0.2; echo {index}")).await, format!("{index}\n"));
        });
    }
    while let Some(result) = all.join_next().await {
        result.unwrap();
    }
    assert_eq!(vm.shell("head -c 20000000 /dev/zero | wc -c").await, "20000000\n");
    let outcome = vm.run(sh("head -c 20000000 /dev/zero")).await.unwrap();
    assert_eq!(outcome.stdout.len(), 20_000_000);
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn fork_bomb_does_not_keep_the_machine_from_shutting_down() {
    for escape in ["", "echo $$ > /sys/fs/cgroup/cgroup.procs; "] {
        let mut vm = Vm::boot(2, false).await;
        let bomb = format!("{escape}trap '' TERM; bomb() {{ bomb | bomb & }}; bomb; sleep 1000");
        let start = run_request::Request::Start(sh(&bomb));
        let mut client = vm.processes.clone();
        let requests = stream::iter([RunRequest { request: Some(start) }]);
        let mut responses = client.run(requests).await.unwrap().into_inner();
        responses.message().await.unwrap();
        // The machine is full: a process runs, or the error says that no more can be made.
        if let Err(status) = vm.run(sh("true")).await {
            assert_eq!(code(&status), ErrorCode::ProcessNotStarted);
        }
        assert_eq!(vm.shutdown().await, Vec::<String>::new());
    }
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn workload_that_takes_all_memory_is_killed_and_nothing_else() {
    let mut vm = Vm::boot(1, false).await;
    let outcome = vm.run(sh("exec tail /dev/zero")).await.unwrap();
    assert_eq!(outcome.exited.signal_name, "SIGKILL");
    assert_eq!(vm.shell("echo alive").await, "alive\n");
    assert_eq!(vm.shutdown().await, Vec::<String>::new());
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn removed_cgroup_is_made_again() {
    let vm = Vm::boot(1, false).await;
    let script = "echo $$ > /sys/fs/cgroup/cgroup.procs && rmdir /sys/fs/cgroup/workload";
    vm.shell(script).await;
    assert_eq!(vm.shell("cat /proc/self/cgroup").await, "0::/workload\n");
}
