use super::*;

#[test]
fn a_missing_device_is_no_device() {
    let found = look(Path::new("/nonexistent/kvm"));
    assert_eq!(found.code, FindingCode::NoDevice);
    assert!(found.detail.contains("/nonexistent/kvm"), "{}", found.detail);
    assert!(found.remedy.contains("--device"), "{}", found.remedy);
}

#[test]
fn something_that_is_not_kvm_is_broken() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let found = look(file.path());
    assert_eq!(found.code, FindingCode::DeviceBroken, "{}", found.detail);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(look(folder.path()).code, FindingCode::DeviceBroken);
}

#[test]
fn a_device_that_may_not_be_opened_is_no_permission() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let found = cannot_open(file.path(), Errno::EACCES);
    assert_eq!(found.code, FindingCode::NoPermission);
    // Mode 0600: no group would help.
    assert!(found.remedy.contains("setfacl"), "{}", found.remedy);
    if nix::unistd::geteuid().is_root() {
        println!(
            "skipped: the open itself, in a_device_that_may_not_be_opened_is_no_permission: \
                  root may open everything"
        );
        return;
    }
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(look(file.path()).code, FindingCode::NoPermission);
}

#[test]
fn a_device_of_a_group_is_had_by_joining_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o660)).unwrap();
    if nix::unistd::chown(file.path(), None, Some(1.into())).is_err() {
        println!("skipped: a_device_of_a_group_is_had_by_joining_it: only root gives files away");
        return;
    }
    let group = group_name(1).unwrap();
    let remedy = permission_remedy(file.path());
    assert!(remedy.contains(&format!("usermod -aG {group} \"$USER\"")), "{remedy}");
}

#[test]
fn slow_rounds_are_emulation_and_fast_ones_hardware() {
    let device = Path::new("/dev/kvm");
    let slow = judge(device, Duration::from_micros(2_400));
    assert_eq!(slow.code, FindingCode::KernelModeEmulated);
    assert!(slow.detail.contains("1.7 million"), "{}", slow.detail);
    let fast = judge(device, Duration::from_micros(5));
    let expected = if KRUN_BUILT { FindingCode::Ok } else { FindingCode::EngineNotBuilt };
    assert_eq!((fast.code, fast.remedy.is_empty()), (expected, KRUN_BUILT), "{}", fast.detail);
    assert_eq!(judge(device, Duration::ZERO).code, expected);
}

#[test]
fn every_failure_is_told_in_words() {
    let say = |failure| broken(Path::new("/dev/kvm"), &failure).detail;
    assert!(say(Failure::Call("KVM_CREATE_VM", Errno::EBUSY)).contains("another hypervisor"));
    assert!(say(Failure::Call("KVM_RUN", Errno::EFAULT)).contains("KVM_RUN says EFAULT"));
    assert!(say(Failure::Version(11)).contains("11"));
    assert!(say(Failure::Exit("Shutdown".to_owned())).contains("Shutdown"));
    assert!(say(Failure::Interrupted).contains("not done"));
}

#[test]
fn a_guest_that_does_not_end_is_interrupted() {
    let Ok(kvm) = kvm::open(Path::new("/dev/kvm")) else {
        println!("skipped: a_guest_that_does_not_end_is_interrupted: no usable /dev/kvm");
        return;
    };
    let measured = measure(kvm, u32::MAX, Duration::from_millis(100));
    assert_eq!(measured, Err(Failure::Interrupted));
}

#[test]
fn this_host_s_own_device_gets_a_finding() {
    let found = look(Path::new("/dev/kvm"));
    println!("{found:?}");
    assert!(!found.detail.is_empty() && !found.remedy.is_empty());
    assert_ne!(found.detail, defect(Path::new("/dev/kvm")).detail);
}
