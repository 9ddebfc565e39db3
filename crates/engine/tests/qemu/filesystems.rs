//! Filesystems, with Linux in the machine.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine::probe::EngineKind;
use engine::{ExitReason, FilesystemSpec, StartError, VmSpec};
use tokio::sync::watch;
use vfs::Observer;
use vfs::fuse::{Limits, Serve, Server};
use vfs::host_dir::{Access, HostDir, HostDirOptions};

use crate::answers::Answers;
use crate::flat_kernel::{Then, flat_kernel};
use crate::held::held;
use crate::linux_guest::linux;
use crate::support::{alone, boot, disk, process_state, read_until, spec};

fn server(fs: impl vfs::FileSystem) -> Arc<dyn Serve> {
    Arc::new(Server::new(fs, Limits::default(), Observer::log()))
}

fn directory(path: &Path) -> Arc<dyn Serve> {
    let options = HostDirOptions::new(path, Access::ReadWrite);
    server(HostDir::new(options, &Observer::log()).unwrap())
}

fn mountable(tag: &str, server: Arc<dyn Serve>) -> FilesystemSpec {
    FilesystemSpec { tag: tag.to_owned(), server }
}

/// Notes how large requests and replies are, and how often the server was reset.
struct Measured {
    inner: Arc<dyn Serve>,
    request: AtomicUsize,
    reply: AtomicUsize,
    resets: AtomicUsize,
}

impl Measured {
    fn new(inner: Arc<dyn Serve>) -> Arc<Self> {
        let [request, reply, resets] = [(); 3].map(|()| AtomicUsize::new(0));
        Arc::new(Self { inner, request, reply, resets })
    }
}

impl Serve for Measured {
    fn handle<'a>(
        &'a self,
        request: vfs::Readable,
        reply: &'a mut vfs::Writable,
    ) -> std::pin::Pin<Box<dyn Future<Output = usize> + Send + 'a>> {
        self.request.fetch_max(request.remaining(), Ordering::Relaxed);
        self.reply.fetch_max(reply.capacity(), Ordering::Relaxed);
        self.inner.handle(request, reply)
    }

    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        self.inner.reset();
    }
}

/// Bytes that no two places share.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_directory_of_the_host_is_read_and_written_in_requests_of_a_megabyte() {
    const TEST: &str = "a_directory_of_the_host_is_read_and_written_in_requests_of_a_megabyte";
    const SCRIPT: &str = r#"
mount -t virtiofs share /mnt || echo "no mount end" >$port
dd if=/mnt/in of=/copy bs=1M iflag=direct 2>/dev/null
dd if=/copy of=/mnt/direct bs=1M oflag=direct 2>/dev/null
cat /mnt/in >/mnt/cached
mkdir /mnt/new && ln -s ../in /mnt/new/link && mv /mnt/new /mnt/moved && rm /mnt/gone
echo "$(cmp /mnt/moved/link /copy && echo same) $(ls /mnt | tr '\n' ' ') end" >$port
reboot -f"#;
    alone(TEST, async {
        let share = tempfile::tempdir().unwrap();
        // Not a whole number of pages.
        let content = noise(20_000_001);
        fs::write(share.path().join("in"), &content).unwrap();
        fs::write(share.path().join("gone"), "").unwrap();
        let Some(mut spec) = linux(TEST, SCRIPT) else { return };
        let measured = Measured::new(directory(share.path()));
        spec.filesystems.push(mountable("share", measured.clone()));
        let mut vm = boot(spec).await;
        let said = read_until(&mut vm.take_control(), "end").await;
        assert_eq!(said, "same cached direct in moved  end\n");
        let exit = vm.wait().await;
        assert_eq!((exit.reason, &*exit.last_words), (ExitReason::GuestReset, ""));
        for name in ["direct", "cached"] {
            assert!(fs::read(share.path().join(name)).unwrap() == content, "{name}");
        }
        assert_eq!(fs::read_link(share.path().join("moved/link")).unwrap(), Path::new("../in"));
        // The data, and a header before it.
        assert_eq!(measured.request.load(Ordering::Relaxed), (1 << 20) + 80);
        assert_eq!(measured.reply.load(Ordering::Relaxed), (1 << 20) + 16);
    });
}

#[test]
fn as_many_filesystems_and_disks_as_are_allowed_come_together() {
    const TEST: &str = "as_many_filesystems_and_disks_as_are_allowed_come_together";
    const SCRIPT: &str = r#"
for n in $(seq 0 15); do
  mkdir -p /mnt/$n
  mount -t virtiofs tag-$n /mnt/$n && cat /mnt/$n/name >$port
done
for d in vda vdb vdc vdd; do
  echo "$(cat /sys/block/$d/serial) $(dd if=/dev/$d bs=512 skip=7 count=1 2>/dev/null | head -c 8)" >$port
done
echo end >$port
reboot -f"#;
    alone(TEST, async {
        let share = tempfile::tempdir().unwrap();
        for cpus in [1, 2] {
            let Some(mut spec) = linux(TEST, SCRIPT) else { return };
            spec.cpus = cpus;
            let mut expected = String::new();
            for index in 0..VmSpec::MAX_FILESYSTEMS {
                let path = share.path().join(index.to_string());
                fs::create_dir_all(&path).unwrap();
                fs::write(path.join("name"), format!("this is {index}\n")).unwrap();
                spec.filesystems.push(mountable(&format!("tag-{index}"), directory(&path)));
                expected.push_str(&format!("this is {index}\n"));
            }
            for index in 0..VmSpec::MAX_DISKS {
                spec.disks.push(disk(&format!("d{index}"), 8));
                expected.push_str(&format!("d{index} d{index} 7 ..\n"));
            }
            expected.push_str("end\n");
            let mut vm = boot(spec).await;
            let said = read_until(&mut vm.take_control(), "end\n").await;
            // `head` cuts where the filling begins.
            assert_eq!(said.replace("....", "..").replace("...", ".."), expected);
            assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
        }
    });
}

#[test]
fn a_request_that_hangs_delays_no_other_nor_a_pause_and_is_answered_in_the_end() {
    const TEST: &str =
        "a_request_that_hangs_delays_no_other_nor_a_pause_and_is_answered_in_the_end";
    const SCRIPT: &str = r#"
mount -t virtiofs answers /mnt
cat /mnt/hang >/hung &
for n in $(seq 0 63); do cat /mnt/file-$n >/out-$n & pids="$pids $!"; done
wait $pids
for n in $(seq 0 63); do cat /out-$n; done | sha256sum | cut -c1-64 >/sum
echo "$(cat /sum) others" >$port
wait
echo "$(wc -c </hung) end" >$port
reboot -f"#;
    alone(TEST, async {
        let Some(mut spec) = linux(TEST, SCRIPT) else { return };
        let (release, released) = watch::channel(false);
        let answers = Answers::new(released);
        spec.filesystems.push(mountable("answers", server(answers.file_system())));
        let mut vm = boot(spec).await;
        let mut control = vm.take_control();
        let said = read_until(&mut control, "others").await;
        assert_eq!(said, format!("{} others\n", Answers::digest(64)));
        assert!(answers.hanging() > 0, "it does hang");
        // The request stays where it is over a pause, and is answered after it.
        for _ in 0..3 {
            vm.pause().await.unwrap();
            vm.resume().await.unwrap();
        }
        vm.pause().await.unwrap();
        release.send(true).unwrap();
        vm.resume().await.unwrap();
        let said = read_until(&mut control, "end").await;
        assert_eq!(said.trim(), format!("{} end", Answers::LENGTH));
        assert_eq!(vm.wait().await.reason, ExitReason::GuestReset);
    });
}

#[test]
fn a_machine_killed_amid_requests_that_hang_leaves_nothing() {
    const TEST: &str = "a_machine_killed_amid_requests_that_hang_leaves_nothing";
    const SCRIPT: &str = r#"
mount -t virtiofs answers /mnt
mkdir /share && mount -t virtiofs share /share
for n in 1 2 3 4 5 6 7 8; do cat /mnt/hang >/dev/null & done
while :; do dd if=/mnt/file-1 of=/share/out bs=64k 2>/dev/null; rm /share/out; echo busy; done >$port"#;
    alone(TEST, async {
        let share = tempfile::tempdir().unwrap();
        let before = held();
        for kill in [true, false] {
            let Some(mut spec) = linux(TEST, SCRIPT) else { return };
            let (_release, released) = watch::channel(false);
            let answers = Answers::new(released);
            spec.filesystems.push(mountable("answers", server(answers.file_system())));
            spec.filesystems.push(mountable("share", directory(share.path())));
            let mut vm = boot(spec).await;
            let pid = vm.process_id().unwrap();
            let mut control = vm.take_control();
            while answers.hanging() == 0 {
                read_until(&mut control, "busy").await;
            }
            drop(control);
            if kill {
                vm.kill();
                assert_eq!(vm.wait().await.reason, ExitReason::Killed);
            }
            drop(vm);
            assert_eq!(process_state(pid), None);
            assert_eq!(answers.hanging(), 0, "the futures are gone");
            drop(answers);
            drop(_release);
            assert_eq!(held(), before);
        }
    });
}

#[test]
fn a_driver_that_lets_go_and_comes_back_begins_anew() {
    const TEST: &str = "a_driver_that_lets_go_and_comes_back_begins_anew";
    const SCRIPT: &str = r#"
cd /sys/bus/virtio/drivers/virtiofs
for d in virtio*; do device=$d; done
for n in 1 2 3; do
  mount -t virtiofs answers /mnt
  cat /mnt/file-1 >/out
  # Unmounting says goodbye to the server; a mount whose device is taken away does not.
  [ $n = 2 ] || umount /mnt
  echo $device >unbind
  [ $n = 2 ] && umount -l /mnt
  echo $device >bind
done
mount -t virtiofs answers /mnt
echo "$(cat /mnt/file-2 | sha256sum | cut -c1-64) end" >$port
reboot -f"#;
    alone(TEST, async {
        let Some(mut spec) = linux(TEST, SCRIPT) else { return };
        let (_release, released) = watch::channel(false);
        let answers = Answers::new(released);
        let measured = Measured::new(server(answers.file_system()));
        spec.filesystems.push(mountable("answers", measured.clone()));
        let mut vm = boot(spec).await;
        let said = read_until(&mut vm.take_control(), "end").await;
        assert_eq!(said, format!("{} end\n", Answers::digest_of(2)));
        assert_eq!(measured.resets.load(Ordering::Relaxed), 3);
        let ended = tokio::time::timeout(Duration::from_secs(60), vm.wait()).await.unwrap();
        assert_eq!(ended.reason, ExitReason::GuestReset);
    });
}

#[test]
fn too_many_filesystems_and_tags_that_cannot_be_are_refused_by_name() {
    alone("too_many_filesystems_and_tags_that_cannot_be_are_refused_by_name", async {
        let share = tempfile::tempdir().unwrap();
        let refused = async |tags: &[&str]| {
            let mut spec = spec(flat_kernel(b"", Then::Halt));
            let server = directory(share.path());
            spec.filesystems = tags.iter().map(|tag| mountable(tag, server.clone())).collect();
            match engine::start(EngineKind::Qemu, spec).await.unwrap_err() {
                StartError::Spec(error) => error.option,
                other => panic!("{other:?}"),
            }
        };
        let long = "x".repeat(37);
        for tags in [&[""][..], &["a,b"], &["a b"], &[&long], &["twice", "twice"]] {
            assert_eq!(refused(tags).await, "filesystems.tag", "{tags:?}");
        }
        let tags: Vec<String> = (0..17).map(|index| index.to_string()).collect();
        let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
        assert_eq!(refused(&tags).await, "filesystems");
    });
}

#[test]
fn giving_up_a_start_with_filesystems_leaves_nothing() {
    alone("giving_up_a_start_with_filesystems_leaves_nothing", async {
        let share = tempfile::tempdir().unwrap();
        let before = held();
        for millis in [0, 1, 5, 20, 40] {
            let mut spec = spec(flat_kernel(b"", Then::Halt));
            for tag in ["one", "two"] {
                spec.filesystems.push(mountable(tag, directory(share.path())));
            }
            let starting = engine::start(EngineKind::Qemu, spec);
            let _ = tokio::time::timeout(Duration::from_millis(millis), starting).await;
            assert_eq!(held(), before, "given up after {millis} ms");
        }
    });
}
