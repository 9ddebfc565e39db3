//! Beginning and end of machines, with a kernel of a few instructions.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use engine::probe::EngineKind;
use engine::{ControlError, ExitReason, StartError};
use tokio::io::AsyncReadExt;

use crate::flat_kernel::{Then, flat_kernel};
use crate::held::held;
use crate::support::{alone, boot, disk, process_state, read_until, spec};

const BECOME_PARENT: &str = "LANEBOX_ENGINE_TEST_PARENT";

#[test]
fn console_bytes_arrive_and_a_reset_ends_the_machine() {
    alone("console_bytes_arrive_and_a_reset_ends_the_machine", async {
        let mut vm = boot(spec(flat_kernel(b"one, two, three\n", Then::Reset))).await;
        assert!(vm.detail().starts_with("QEMU "), "{}", vm.detail());
        let mut said = String::new();
        vm.take_console().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "one, two, three\n");
        let exit = vm.wait().await;
        assert_eq!((exit.code, exit.signal), (Some(0), None));
        assert_eq!(exit.reason, ExitReason::GuestReset);
        assert_eq!(exit.last_words, "");
        assert_eq!(vm.wait().await, exit, "the end is told again");
        vm.kill();
        assert!(matches!(vm.pause().await, Err(ControlError::Gone)));
    });
}

#[test]
fn kill_ends_a_machine_whatever_its_guest_does() {
    alone("kill_ends_a_machine_whatever_its_guest_does", async {
        for then in [Then::Halt, Then::Spin, Then::Repeat] {
            let mut vm = boot(spec(flat_kernel(b"here", then))).await;
            read_until(&mut vm.take_console(), "here").await;
            let waited = tokio::time::timeout(Duration::from_millis(50), vm.wait()).await;
            assert!(waited.is_err(), "it runs");
            vm.kill();
            vm.kill();
            let exit = vm.wait().await;
            assert_eq!((exit.code, exit.signal), (None, Some(9)));
            assert_eq!(exit.reason, ExitReason::Killed);
            assert_eq!(process_state(vm.process_id().unwrap()), None, "it is reaped");
        }
    });
}

#[test]
fn a_signal_from_elsewhere_is_a_failure_of_the_engine() {
    alone("a_signal_from_elsewhere_is_a_failure_of_the_engine", async {
        let mut vm = boot(spec(flat_kernel(b"", Then::Halt))).await;
        let pid = nix::unistd::Pid::from_raw(vm.process_id().unwrap().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGABRT).unwrap();
        let exit = vm.wait().await;
        assert_eq!((exit.signal, exit.reason), (Some(6), ExitReason::Failed));
    });
}

#[test]
fn a_paused_guest_stands_still_and_goes_on() {
    alone("a_paused_guest_stands_still_and_goes_on", async {
        let mut vm = boot(spec(flat_kernel(b"tick ", Then::Repeat))).await;
        let mut console = vm.take_console();
        read_until(&mut console, "tick").await;
        vm.pause().await.unwrap();
        // What was on its way ends; then there is silence.
        let mut piece = [0; 65536];
        let silence = Duration::from_millis(300);
        while let Ok(count) = tokio::time::timeout(silence, console.read(&mut piece)).await {
            assert!(count.unwrap() > 0);
        }
        vm.resume().await.unwrap();
        read_until(&mut console, "tick").await;
    });
}

#[test]
fn a_console_that_nobody_reads_stops_neither_kill_nor_pause() {
    alone("a_console_that_nobody_reads_stops_neither_kill_nor_pause", async {
        let mut vm = boot(spec(flat_kernel(&[b'x'; 4096], Then::Repeat))).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        vm.pause().await.unwrap();
        vm.resume().await.unwrap();
        vm.kill();
        assert_eq!(vm.wait().await.reason, ExitReason::Killed);
    });
}

#[test]
fn dropping_a_machine_leaves_nothing_twenty_times_over() {
    alone("dropping_a_machine_leaves_nothing_twenty_times_over", async {
        let before = held();
        for round in 0..20 {
            let mut vm = boot(spec(flat_kernel(b"up", Then::Halt))).await;
            let pid = vm.process_id().unwrap();
            if round % 2 == 0 {
                read_until(&mut vm.take_console(), "up").await;
            }
            assert_ne!(held(), before, "the counts see a running machine");
            drop(vm);
            assert_eq!(process_state(pid), None, "no process, no zombie");
            assert_eq!(held(), before, "round {round}");
        }
    });
}

#[test]
fn giving_up_a_start_at_any_moment_leaves_nothing() {
    alone("giving_up_a_start_at_any_moment_leaves_nothing", async {
        let before = held();
        for millis in [0, 1, 2, 5, 10, 20, 40] {
            let mut spec = spec(flat_kernel(b"", Then::Halt));
            spec.disks.push(disk("disk", 8));
            let starting = engine::start(EngineKind::Qemu, spec);
            let _ = tokio::time::timeout(Duration::from_millis(millis), starting).await;
            assert_eq!(held(), before, "given up after {millis} ms");
        }
    });
}

#[test]
fn a_kernel_that_is_none_is_an_error_with_the_words_of_qemu() {
    alone("a_kernel_that_is_none_is_an_error_with_the_words_of_qemu", async {
        let before = held();
        let nonsense = crate::support::file(b"not a kernel");
        let error = engine::start(EngineKind::Qemu, spec(nonsense)).await.unwrap_err();
        let StartError::Ended(exit) = &error else { panic!("{error:?}") };
        assert_eq!((exit.code, exit.signal), (Some(1), None));
        assert!(error.to_string().contains("kernel"), "{error}");
        assert_eq!(held(), before);
    });
}

#[test]
fn the_child_holds_what_it_was_given_and_no_more() {
    alone("the_child_holds_what_it_was_given_and_no_more", async {
        // One that is open without close-on-exec, as a careless parent leaves them.
        let careless = tempfile::tempfile().unwrap();
        nix::fcntl::fcntl(&careless, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .unwrap();
        let secret = std::fs::read_link(format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&careless)
        ))
        .unwrap();
        let vm = boot(spec(flat_kernel(b"", Then::Halt))).await;
        let folder = format!("/proc/{}/fd", vm.process_id().unwrap());
        let open: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .map(|target| target.to_string_lossy().into_owned())
            .collect();
        assert!(!open.contains(&secret.to_string_lossy().into_owned()), "{open:?}");
        // Inherited: /dev/null twice, standard error, three sockets, kernel and initial file
        // system. Its own: guest memory, event descriptors and polls, a signal descriptor.
        let sockets = open.iter().filter(|target| target.starts_with("socket:")).count();
        assert_eq!(sockets, 3, "{open:?}");
        let kinds: BTreeSet<&str> =
            open.iter().map(|target| target.split([':', '[']).next().unwrap()).collect();
        let files: Vec<_> = kinds.iter().filter(|kind| kind.starts_with('/')).collect();
        println!("{kinds:?}");
        assert!(files.len() <= 4, "{open:?}");
    });
}

#[test]
fn the_child_is_confined() {
    alone("the_child_is_confined", async {
        let vm = boot(spec(flat_kernel(b"", Then::Halt))).await;
        let pid = vm.process_id().unwrap();
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let status = read("status");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(status.contains("Seccomp:\t2"), "{status}");
        let cores = read("limits")
            .lines()
            .find(|line| line.contains("core file"))
            .map(|line| line.split_whitespace().filter(|word| *word == "0").count());
        assert_eq!(cores, Some(2), "no core files, hard and soft");
        assert_eq!(read("environ").replace('\0', ""), "LC_ALL=C");
        let group = read("stat").rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap().to_owned();
        assert_eq!(group, pid.to_string(), "a process group of its own");
    });
}

#[test]
fn memory_beyond_the_host_and_senseless_options_are_refused_by_name() {
    alone("memory_beyond_the_host_and_senseless_options_are_refused_by_name", async {
        let start = async |change: fn(&mut engine::VmSpec)| {
            let mut spec = spec(flat_kernel(b"", Then::Halt));
            change(&mut spec);
            engine::start(EngineKind::Qemu, spec).await.unwrap_err()
        };
        let error = start(|spec| spec.memory_mib = engine::VmSpec::MAX_MEMORY_MIB).await;
        assert!(matches!(error, StartError::NotEnoughMemory { .. }), "{error:?}");
        let option = |error| match error {
            StartError::Spec(error) => error.option,
            other => panic!("{other:?}"),
        };
        assert_eq!(option(start(|spec| spec.cpus = 0).await), "cpus");
        assert_eq!(option(start(|spec| spec.cpus = 65).await), "cpus");
        assert_eq!(option(start(|spec| spec.memory_mib = 1).await), "memory_mib");
        let bad_port = |spec: &mut engine::VmSpec| spec.control_port = "a,path=/tmp/x".to_owned();
        assert_eq!(option(start(bad_port).await), "control_port");
        let bad_serial = |spec: &mut engine::VmSpec| {
            spec.disks.push(engine::DiskSpec { serial: "a b".to_owned(), ..disk("x", 1) });
        };
        assert_eq!(option(start(bad_serial).await), "disks.serial");
        let too_many = |spec: &mut engine::VmSpec| spec.disks.extend((0..5).map(|_| disk("x", 1)));
        assert_eq!(option(start(too_many).await), "disks");
    });
}

#[test]
fn the_engine_dies_with_its_parent() {
    if std::env::var_os(BECOME_PARENT).is_some() {
        return become_parent();
    }
    alone("the_engine_dies_with_its_parent", async {
        let mut parent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lifecycle::the_engine_dies_with_its_parent", "--nocapture"])
            .env(BECOME_PARENT, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
        let pid = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("engine ")?.1.parse::<u32>().ok())
            .expect("the parent tells");
        assert!(process_state(pid).is_some());
        parent.kill().unwrap();
        parent.wait().unwrap();
        while process_state(pid).is_some_and(|state| state != 'Z') {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

/// Boots on a thread that ends at once, and waits to be killed.
fn become_parent() {
    let vm = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let vm = runtime.block_on(boot(spec(flat_kernel(b"", Then::Spin))));
        // The sockets belong to the runtime, which stays.
        (runtime, vm)
    });
    let (_runtime, vm) = vm.join().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let pid = vm.process_id().unwrap();
    assert_ne!(process_state(pid), Some('Z'), "the end of the thread that started it is nothing");
    println!("\nengine {pid}");
    std::thread::sleep(Duration::from_secs(600));
}
