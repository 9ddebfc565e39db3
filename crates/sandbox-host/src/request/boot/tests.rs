use super::*;
use crate::request::DiskFormat;

fn good() -> v1::BootRequest {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let artifact = |path: &str| v1::Artifact { path: path.to_owned(), digest: digest.clone() };
    v1::BootRequest {
        minimum_isolation: v1::IsolationKind::Emulated.into(),
        cpus: 1,
        memory_mib: 512,
        kernel: Some(artifact("/k")),
        initramfs: Some(artifact("/i")),
        root: Some(v1::RootDisk {
            path: "/r".to_owned(),
            format: v1::DiskFormat::Raw.into(),
            digest: digest.clone(),
            size_bytes: 1024,
            overlay: None,
        }),
        hostname: "sandbox".to_owned(),
        ..v1::BootRequest::default()
    }
}

#[test]
fn defaults_are_filled_in() {
    let plan = boot(good()).unwrap();
    assert_eq!(plan.cwd, "/");
    assert_eq!(plan.deadline, BOOT_DEFAULT);
    assert_eq!((plan.minimum, plan.engine), (IsolationKind::Emulated, None));
}

/// Each change makes one field wrong; the error must name it.
#[test]
fn each_bad_field_is_refused_by_its_name() {
    type Change = fn(&mut v1::BootRequest);
    let cases: [(&str, Change); 27] = [
        ("minimum_isolation", |r| r.minimum_isolation = 0),
        ("minimum_isolation", |r| r.minimum_isolation = 9),
        ("engine", |r| r.engine = 7),
        ("cpus", |r| r.cpus = 0),
        ("cpus", |r| r.cpus = 65),
        ("memory_mib", |r| r.memory_mib = 127),
        ("memory_mib", |r| r.memory_mib = 1_048_577),
        ("kernel", |r| r.kernel = None),
        ("kernel.path", |r| r.kernel.as_mut().unwrap().path = "vmlinux".to_owned()),
        ("kernel.path", |r| r.kernel.as_mut().unwrap().path = "/a\0".to_owned()),
        ("kernel.digest", |r| r.kernel.as_mut().unwrap().digest = "0a".repeat(32)),
        ("initramfs", |r| r.initramfs = None),
        ("initramfs.digest", |r| r.initramfs.as_mut().unwrap().digest.push('0')),
        ("root", |r| r.root = None),
        ("root.path", |r| r.root.as_mut().unwrap().path.clear()),
        ("root.format", |r| r.root.as_mut().unwrap().format = 0),
        ("root.digest", |r| r.root.as_mut().unwrap().digest.clear()),
        ("root.size_bytes", |r| r.root.as_mut().unwrap().size_bytes = 0),
        ("root.size_bytes", |r| r.root.as_mut().unwrap().size_bytes = 1000),
        ("hostname", |r| r.hostname.clear()),
        ("hostname", |r| r.hostname = "a..b".to_owned()),
        ("hostname", |r| r.hostname = "-a".to_owned()),
        ("hostname", |r| r.hostname = "a".repeat(65)),
        ("cwd", |r| r.cwd = "work".to_owned()),
        ("env", |r| drop(r.env.insert(String::new(), String::new()))),
        ("env", |r| drop(r.env.insert("A".to_owned(), "\0".to_owned()))),
        ("deadline_ms", |r| r.deadline_ms = 600_001),
    ];
    for (field, change) in cases {
        let mut request = good();
        change(&mut request);
        let error = boot(request).expect_err(field);
        assert_eq!(error.field, field);
    }
}

#[test]
fn qcow2_need_not_be_whole_sectors() {
    let mut request = good();
    let root = request.root.as_mut().unwrap();
    root.format = v1::DiskFormat::Qcow2.into();
    root.size_bytes = 1001;
    assert_eq!(boot(request).unwrap().root.format, DiskFormat::Qcow2);
}

#[test]
fn a_long_value_is_shortened_in_the_error() {
    let mut request = good();
    request.hostname = "ü".repeat(5000);
    assert!(boot(request).unwrap_err().value.chars().count() < 130);
}
