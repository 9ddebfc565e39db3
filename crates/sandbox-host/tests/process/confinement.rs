//! What confines the program, looked at from outside.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::geteuid;
use protocol::v1::sandbox_service_client::SandboxServiceClient;
use protocol::{ErrorCode, v1};
use tonic::transport::Channel;

use crate::calls::{assert_code, channel, detail, soon};
use crate::helper::{ended, spawn};
use crate::program;

/// A user who owns nothing.
const NOBODY: u32 = 65_534;

async fn serving(
    adjust: impl FnOnce(&mut Command),
) -> (Child, SandboxServiceClient<Channel>, v1::ProbeResponse) {
    let (child, connection) = spawn(program(), adjust);
    let mut sandbox = SandboxServiceClient::new(channel(connection).await);
    let probe = soon(sandbox.probe(v1::ProbeRequest {})).await.unwrap().into_inner();
    (child, sandbox, probe)
}

/// The value of a field of a thread's status.
fn field(status: &Path, name: &str) -> String {
    let text = fs::read_to_string(status).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

#[tokio::test]
async fn all_its_threads_are_confined_and_it_tells_how() {
    let (child, sandbox, probe) = serving(|_| {}).await;
    let process = Path::new("/proc").join(child.id().to_string());
    let mut threads = 0;
    for thread in fs::read_dir(process.join("task")).unwrap() {
        let status = thread.unwrap().path().join("status");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "Seccomp"), "2");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&field(&status, set), 16), Ok(0), "{set}");
        }
        threads += 1;
    }
    assert!(threads > 1);
    assert!(probe.confinement.contains("seccomp"), "{probe:?}");
    if Path::new("/sys/kernel/security/landlock").exists() || probe.confinement.contains("ABI") {
        assert!(probe.confinement.contains("Landlock ABI"), "{probe:?}");
    }
    if probe.confinement.contains("user+mount+ipc+uts+network namespaces") {
        for namespace in ["user", "mnt", "ipc", "uts", "net"] {
            let of = |process: &Path| fs::read_link(process.join("ns").join(namespace)).unwrap();
            assert_ne!(of(&process), of(Path::new("/proc/self")), "{namespace}");
        }
    } else {
        assert!(!probe.confinement_missing.is_empty(), "{probe:?}");
    }
    drop(sandbox);
    assert!(ended(child).await.0.success());
}

#[tokio::test]
async fn its_memory_and_environment_are_closed_to_others_of_its_user() {
    if !geteuid().is_root() {
        println!("skipped: it needs a second user that is not this one");
        return;
    }
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let copy = folder.path().join("sandbox-host");
    fs::copy(program(), &copy).unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let (child, connection) = spawn(&copy, |command| {
        command.uid(NOBODY).gid(NOBODY);
    });
    let mut sandbox = SandboxServiceClient::new(channel(connection).await);
    let probe = soon(sandbox.probe(v1::ProbeRequest {})).await.unwrap().into_inner();
    assert!(probe.confinement.contains("no capabilities"), "{probe:?}");
    let may_read = |what: &str| {
        let file = format!("/proc/{}/{what}", child.id());
        let mut cat = Command::new("head");
        cat.args(["-c", "1", &file]).uid(NOBODY).gid(NOBODY).stderr(Stdio::null());
        cat.stdout(Stdio::null()).status().unwrap().success()
    };
    assert!(may_read("stat"));
    for what in ["mem", "environ", "maps", "auxv"] {
        assert!(!may_read(what), "{what}");
    }
    drop(sandbox);
    assert!(ended(child).await.0.success());
}

#[tokio::test]
async fn a_boot_of_files_that_were_not_granted_is_refused_and_names_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let digest = format!("sha256:{}", "0".repeat(64));
    let artifact = |name| Some(v1::Artifact { path: path(name), digest: digest.clone() });
    let request = v1::BootRequest {
        minimum_isolation: v1::IsolationKind::Emulated.into(),
        cpus: 1,
        memory_mib: 256,
        kernel: artifact("kernel"),
        initramfs: artifact("initramfs"),
        root: Some(v1::RootDisk {
            path: path("root"),
            format: v1::DiskFormat::Raw.into(),
            digest: digest.clone(),
            size_bytes: 512,
            ..v1::RootDisk::default()
        }),
        hostname: "sandbox".to_owned(),
        ..v1::BootRequest::default()
    };
    let granted = [
        ("kernel.path", vec![]),
        ("initramfs.path", vec![format!("engine:{}", path("kernel"))]),
        (
            "root.path",
            vec![format!("engine:{}", path("kernel")), format!("engine:{}", path("initramfs"))],
        ),
    ];
    for (field, grants) in granted {
        let (child, mut sandbox, _) = serving(|command| {
            for grant in &grants {
                command.arg("--grant").arg(grant);
            }
        })
        .await;
        let refused = detail(soon(sandbox.boot(request.clone())).await);
        assert_code(&refused, ErrorCode::InvalidArgument);
        assert!(refused.message.starts_with(field), "{refused:?}");
        drop(sandbox);
        ended(child).await;
    }
}

#[tokio::test]
async fn without_confinement_it_says_so() {
    let (child, sandbox, probe) = serving(|command| {
        command.args(["--confinement", "off"]);
    })
    .await;
    assert!(probe.confinement.contains("not confined"), "{probe:?}");
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    assert_eq!(field(&status, "Seccomp"), "0");
    drop(sandbox);
    assert!(ended(child).await.0.success());
}

#[tokio::test]
async fn grants_and_groups_that_make_no_sense_are_refused_before_anything_is_served() {
    let cases: [&[&str]; 4] = [
        &["--grant", "read:relative"],
        &["--grant", "all:/"],
        &["--confinement", "maybe"],
        &["--cgroup", "/tmp"],
    ];
    for arguments in cases {
        let (child, _connection) = spawn(program(), |command| {
            command.args(arguments);
        });
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(arguments[1].trim_start_matches("read:")), "{said}");
    }
}
