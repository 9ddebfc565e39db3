//! A guest in QEMU with the control port on a socket, and the client that the host would be.
//!
//! What it boots is named by the environment: LANEBOX_TEST_KERNEL (vmlinux), LANEBOX_TEST_INITRAMFS
//! (initramfs.cpio) and LANEBOX_TEST_ROOT (a QCOW2 image with a busybox in it).
#![allow(dead_code, reason = "each program that includes this uses a part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests are not inside #[test] functions")]

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream;
use hyper_util::rt::TokioIo;
use protocol::guest::v1::guest_service_client::GuestServiceClient;
use protocol::guest::v1::process_service_client::ProcessServiceClient;
use protocol::guest::v1::{
    ConfigureRequest, RootFilesystem, ShutdownRequest, configure_response::Response as Configuring,
};
use protocol::v1::{ProcessExited, RunRequest, StartProcess, run_request, run_response};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// A running guest; dropping it kills QEMU.
pub(crate) struct Vm {
    pub(crate) guest: GuestServiceClient<Channel>,
    pub(crate) processes: ProcessServiceClient<Channel>,
    qemu: Child,
    folder: TempDir,
}

/// What a process did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) pid: u32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) messages: usize,
    pub(crate) exited: ProcessExited,
}

impl Outcome {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

fn artifact(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} must name a file"))
}

impl Vm {
    /// Starts QEMU and connects; the guest is not configured yet.
    pub(crate) async fn start(cpus: u32, writable: bool) -> Self {
        Self::start_with_port(cpus, writable, "lanebox.control").await
    }

    /// The same with a control port of another name.
    pub(crate) async fn start_with_port(cpus: u32, writable: bool, port: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control");
        let access = if writable { "readonly=off" } else { "readonly=on" };
        // A writable disk is a copy, which a test can look at afterwards.
        let disk = folder.path().join("root.qcow2");
        fs::copy(artifact("LANEBOX_TEST_ROOT"), &disk).unwrap();
        let console = File::create(folder.path().join("console")).unwrap();
        let qemu = Command::new("qemu-system-x86_64")
            .args(["-M", "microvm,acpi=off,rtc=on", "-accel", "tcg", "-cpu", "qemu64"])
            .args(["-m", "256", "-smp", &cpus.to_string(), "-nodefaults", "-no-user-config"])
            .args(["-nographic", "-no-reboot", "-serial", "stdio"])
            .args(["-kernel", &artifact("LANEBOX_TEST_KERNEL")])
            .args(["-initrd", &artifact("LANEBOX_TEST_INITRAMFS")])
            .args(["-append", "console=ttyS0 quiet reboot=t panic=-1"])
            .args(["-global", "virtio-mmio.force-legacy=false", "-device", "virtio-serial-device"])
            .arg("-chardev")
            .arg(format!("socket,id=c,path={},server=on,wait=off", socket.display()))
            .args(["-device", &format!("virtserialport,chardev=c,name={port}")])
            .arg("-drive")
            .arg(format!("if=none,id=root,format=qcow2,{access},file={}", disk.display()))
            .args(["-device", "virtio-blk-device,drive=root"])
            // A link with nobody at its other end.
            .args([
                "-netdev",
                "hubport,id=link,hubid=0",
                "-device",
                "virtio-net-device,netdev=link",
            ])
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .spawn()
            .unwrap();
        let channel = connect(&socket).await;
        Self {
            guest: GuestServiceClient::new(channel.clone()),
            processes: ProcessServiceClient::new(channel),
            qemu,
            folder,
        }
    }

    /// A guest that can run processes.
    pub(crate) async fn boot(cpus: u32, writable: bool) -> Self {
        let mut vm = Self::start(cpus, writable).await;
        let steps = vm.configure(request(!writable)).await.unwrap_or_else(|status| {
            panic!("{status:?}\n{}", vm.console());
        });
        assert_eq!(steps.last().map(String::as_str), Some("working-directory"));
        vm
    }

    /// Configures and returns the steps that were announced.
    pub(crate) async fn configure(
        &mut self,
        request: ConfigureRequest,
    ) -> Result<Vec<String>, Status> {
        let mut responses = self.guest.configure(request).await?.into_inner();
        let mut steps = Vec::new();
        while let Some(message) = responses.message().await? {
            match message.response.unwrap() {
                Configuring::StepStarted(step) => steps.push(step.name),
                Configuring::Configured(configured) => {
                    assert!(!configured.kernel_release.is_empty());
                }
            }
        }
        Ok(steps)
    }

    /// Runs a process to its end.
    pub(crate) async fn run(&self, start: StartProcess) -> Result<Outcome, Status> {
        let request = RunRequest { request: Some(run_request::Request::Start(start)) };
        let mut client = self.processes.clone();
        let mut responses = client.run(stream::iter([request])).await?.into_inner();
        let mut outcome = Outcome::default();
        while let Some(message) = responses.message().await? {
            outcome.messages += 1;
            match message.response.unwrap() {
                run_response::Response::Started(started) => outcome.pid = started.pid,
                run_response::Response::Stdout(bytes) => outcome.stdout.extend(bytes),
                run_response::Response::Stderr(bytes) => outcome.stderr.extend(bytes),
                run_response::Response::Exited(exited) => outcome.exited = exited,
            }
        }
        Ok(outcome)
    }

    /// Runs a shell script that must succeed, and returns what it wrote.
    pub(crate) async fn shell(&self, script: &str) -> String {
        let outcome = self.run(sh(script)).await.unwrap();
        let text = String::from_utf8(outcome.stdout).unwrap();
        assert_eq!(outcome.exited.exit_code, Some(0), "{script}: {text}{:?}", outcome.stderr);
        text
    }

    /// Shuts down; the problems. QEMU has then ended by itself.
    pub(crate) async fn shutdown(&mut self) -> Vec<String> {
        let request = ShutdownRequest { grace_ms: 300 };
        let response = self.guest.shutdown(request).await.unwrap_or_else(|status| {
            panic!("{status:?}\n{}", self.console());
        });
        self.close();
        self.ended().await;
        response.into_inner().problems
    }

    /// Closes the host's side of the channel.
    pub(crate) fn close(&mut self) {
        let nowhere = Endpoint::from_static("http://closed.invalid").connect_lazy();
        self.guest = GuestServiceClient::new(nowhere.clone());
        self.processes = ProcessServiceClient::new(nowhere);
    }

    /// The disk as a file of its bytes; the guest must have ended.
    pub(crate) fn raw_disk(&self) -> PathBuf {
        let raw = self.folder.path().join("root.raw");
        let status = Command::new("qemu-img")
            .args(["convert", "-O", "raw"])
            .arg(self.folder.path().join("root.qcow2"))
            .arg(&raw)
            .status()
            .unwrap();
        assert!(status.success());
        raw
    }

    /// Waits until QEMU has ended by itself.
    pub(crate) async fn ended(&mut self) {
        for _ in 0..3000 {
            if let Some(status) = self.qemu.try_wait().unwrap() {
                assert!(status.success(), "{status}\n{}", self.console());
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the machine has not been reset\n{}", self.console());
    }

    /// What the guest printed.
    pub(crate) fn console(&self) -> String {
        let text = fs::read(self.folder.path().join("console")).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// A sound configuration.
pub(crate) fn request(read_only: bool) -> ConfigureRequest {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    ConfigureRequest {
        root: Some(RootFilesystem {
            device: "/dev/vda".into(),
            r#type: "ext4".into(),
            read_only,
            ..RootFilesystem::default()
        }),
        hostname: "sandbox".into(),
        time_unix_nanos: now.as_nanos().try_into().unwrap(),
        cwd: "/".into(),
        env: [("LANE".to_owned(), "one".to_owned())].into(),
        mounts: Vec::new(),
        network: None,
    }
}

/// A shell script.
pub(crate) fn sh(script: &str) -> StartProcess {
    StartProcess {
        command: "sh".into(),
        args: vec!["-c".into(), script.into()],
        ..StartProcess::default()
    }
}

async fn connect(socket: &Path) -> Channel {
    // The socket's file is there a moment before QEMU listens on it.
    for _ in 0..500 {
        if let Ok(stream) = UnixStream::connect(&socket).await {
            return channel(stream).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("QEMU does not listen on {}", socket.display());
}

async fn channel(stream: UnixStream) -> Channel {
    let mut stream = Some(stream);
    Endpoint::from_static("http://guest.invalid")
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 30)
        .connect_with_connector(tower::service_fn(move |_| {
            let stream = stream.take().ok_or_else(|| std::io::Error::other("one connection"));
            async move { stream.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}
