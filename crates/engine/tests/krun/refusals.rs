//! What does not start, and how that is told.

use engine::StartError;
use engine::VmSpec;
use engine::probe::EngineKind;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::flat_kernel::{Then, flat_kernel};
use crate::held::held;
use crate::support::{alone, file, spec};

async fn refused(change: impl FnOnce(&mut VmSpec)) -> StartError {
    let mut spec = spec(flat_kernel(b".", Then::Halt));
    change(&mut spec);
    engine::start(EngineKind::Krun, spec).await.unwrap_err()
}

fn option(error: StartError) -> &'static str {
    match error {
        StartError::Spec(error) => error.option,
        other => panic!("{other:?}"),
    }
}

#[test]
fn senseless_options_are_refused_by_name_and_leave_nothing() {
    alone("senseless_options_are_refused_by_name_and_leave_nothing", async {
        let before = held();
        assert_eq!(option(refused(|spec| spec.cpus = 65).await), "cpus");
        assert_eq!(option(refused(|spec| spec.kernel = file(b"no kernel")).await), "kernel");
        assert_eq!(option(refused(|spec| spec.kernel = file(&[0; 8192])).await), "kernel");
        let large = |spec: &mut VmSpec| spec.initramfs.set_len(63 << 20).unwrap();
        assert_eq!(option(refused(large).await), "memory_mib");
        let larger = |spec: &mut VmSpec| spec.initramfs.set_len(65 << 20).unwrap();
        assert_eq!(option(refused(larger).await), "memory_mib");
        let too_much = refused(|spec| spec.memory_mib = VmSpec::MAX_MEMORY_MIB).await;
        assert!(matches!(too_much, StartError::NotEnoughMemory { .. }), "{too_much:?}");
        assert_eq!(held(), before);
    });
}

#[test]
fn a_host_without_memory_is_told_as_that_and_nothing_is_left() {
    alone("a_host_without_memory_is_told_as_that_and_nothing_is_left", async {
        let before = held();
        let (soft, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        setrlimit(Resource::RLIMIT_AS, pages * 4096 + (512 << 20), hard).unwrap();
        let error = refused(|spec| spec.memory_mib = 1024).await;
        setrlimit(Resource::RLIMIT_AS, soft, hard).unwrap();
        match &error {
            StartError::Resource { what, source } => {
                assert_eq!(*what, "the guest's memory");
                assert_eq!(source.raw_os_error(), Some(nix::libc::ENOMEM), "{source}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(held(), before);
    });
}
