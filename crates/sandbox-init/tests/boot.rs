//! Real boots in QEMU. Run with `cargo test -p sandbox-init --test boot -- --ignored` and the three
//! variables that `support` names.
#![allow(missing_docs, reason = "tests")]

mod support;

use support::{Vm, request, sh};

#[tokio::test]
#[ignore = "boots a VM"]
async fn machine_is_an_ordinary_linux_with_a_read_only_root() {
    let vm = Vm::boot(1, false).await;
    eprintln!("{}", vm.shell("mount; ps; df; env; id; cat /etc/hosts; hostname; ls -la / /dev; date; ulimit -n; cat /proc/self/cgroup; ifconfig lo; ls -l /proc/self/fd; cat /sys/fs/cgroup/workload/pids.max /sys/fs/cgroup/workload/memory.max; free; cat /sys/fs/cgroup/cgroup.subtree_control; cat /proc/1/status").await);
    assert_eq!(vm.shutdown().await, Vec::<String>::new());
}

#[tokio::test]
#[ignore = "boots a VM"]
async fn failed_step_is_named_with_its_errno() {
    let mut vm = Vm::start(1, false).await;
    let mut wrong = request(true);
    wrong.cwd = "/no/such/folder".into();
    let status = vm.configure(wrong).await.unwrap_err();
    let detail = protocol::status::detail(&status).unwrap();
    assert_eq!((detail.step.as_str(), detail.errno.as_str()), ("working-directory", "ENOENT"));
    let _ = sh("");
}
