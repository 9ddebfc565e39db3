//! What is looked up to be run, as whom and where, and what does not start.

use super::*;

#[tokio::test]
async fn commands_that_do_not_run_are_told_apart_as_a_shell_does() {
    use ErrorCode::{CommandNotExecutable, CommandNotFound};
    let bench = bench().await;
    let orphan = bench.file("orphan", b"#!/no/such/interpreter -x\n", 0o755);
    let plain = bench.file("plain", b"echo hello", 0o644);
    let foreign = bench.file("foreign", b"\x7fELF\0\0\0\0\nrest", 0o755);
    let inside = format!("{plain}/inside");
    let long = "x".repeat(300);
    for (name, code, errno) in [
        ("no-such-command-at-all", CommandNotFound, "ENOENT"),
        (&long, CommandNotFound, "ENOENT"),
        ("/no/such/command", CommandNotFound, "ENOENT"),
        (&orphan, CommandNotFound, "ENOENT"),
        (&plain, CommandNotExecutable, "EACCES"),
        ("/tmp", CommandNotExecutable, "EACCES"),
        (&foreign, CommandNotExecutable, "ENOEXEC"),
        (&inside, CommandNotExecutable, "ENOTDIR"),
    ] {
        let (found, number, message) = bench.refusal(command(name, &[])).await;
        assert_eq!((found, number.as_str()), (code, errno), "{name}: {message}");
    }
    let (_, _, message) = bench.refusal(command(&orphan, &[])).await;
    assert!(message.contains("/no/such/interpreter"), "{message}");
}

#[tokio::test]
async fn path_is_the_processes_own_and_skips_what_does_not_run() {
    let bench = bench().await;
    for folder in ["one", "two", "three"] {
        fs::create_dir(bench.folder.path().join(folder)).unwrap();
    }
    fs::create_dir(bench.folder.path().join("one/tool")).unwrap();
    bench.file("two/tool", b"#!/bin/sh\necho two", 0o644);
    let root = bench.folder.path().to_str().unwrap();
    let with_path = |path: String| StartProcess {
        env: [("PATH".to_owned(), path)].into(),
        ..command("tool", &[])
    };
    let both = format!("{root}/none:{root}/one:{root}/two");
    let refusal = bench.refusal(with_path(both.clone())).await;
    assert_eq!((refusal.0, refusal.1.as_str()), (ErrorCode::CommandNotExecutable, "EACCES"));
    bench.file("three/tool", b"#!/bin/sh\necho three", 0o755);
    let outcome = bench.run(with_path(format!("{both}:{root}/three"))).await.unwrap();
    assert_eq!(outcome.text(), "three\n");
    let only_folder = bench.refusal(with_path(format!("{root}/one"))).await;
    assert_eq!(only_folder.0, ErrorCode::CommandNotFound);
    // An empty element is the working directory.
    for path in ["", ":/bin"] {
        let here = StartProcess { cwd: format!("{root}/three"), ..with_path(path.into()) };
        assert_eq!(bench.run(here).await.unwrap().text(), "three\n");
    }
}

#[tokio::test]
async fn script_without_a_first_line_is_given_to_the_shell() {
    let bench = bench().await;
    let script = bench.file("script", b"echo \"$0\" \"$1\"; exit 5", 0o755);
    let outcome = bench.run(command(&script, &["one"])).await.unwrap();
    assert_eq!(outcome.text(), format!("{script} one\n"));
    assert_eq!(outcome.exited.exit_code, Some(5));
}

#[tokio::test]
async fn what_keeps_a_process_from_starting_is_named() {
    let bench = bench().await;
    let cases = [
        (StartProcess { cwd: "/no/such".into(), ..sh("true") }, "ENOENT", "/no/such"),
        (StartProcess { cwd: "/etc/passwd".into(), ..sh("true") }, "ENOTDIR", "/etc/passwd"),
        (StartProcess { user: "no-such-user".into(), ..sh("true") }, "", "no-such-user"),
        (StartProcess { user: "root:no-group".into(), ..sh("true") }, "", "no-group"),
    ];
    for (start, errno, named) in cases {
        let (code, number, message) = bench.refusal(start).await;
        assert_eq!((code, number.as_str()), (ErrorCode::ProcessNotStarted, errno), "{message}");
        assert!(message.contains(named), "{message}");
    }
}

#[tokio::test]
async fn process_runs_as_the_user_that_was_asked_for() {
    let bench = bench().await;
    let start = StartProcess { user: "65533:65532".into(), ..sh("id -u; id -G; echo $HOME") };
    assert_eq!(bench.run(start).await.unwrap().text(), "65533\n65532\n/\n");
}

#[tokio::test]
async fn working_directory_is_entered_as_the_user() {
    let bench = bench().await;
    let private = bench.folder.path().join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
    let cwd = private.to_str().unwrap().to_owned();
    let start = StartProcess { user: "65533".into(), cwd, ..sh("pwd") };
    let (code, errno, _) = bench.refusal(start).await;
    assert_eq!((code, errno.as_str()), (ErrorCode::ProcessNotStarted, "EACCES"));
}

#[tokio::test]
async fn too_many_arguments_are_a_limit() {
    let bench = bench().await;
    let one_too_long = command("true", &[&"x".repeat(200_000)]);
    let too_many = command("true", &["x".repeat(100_000).as_str(); 35]);
    for start in [one_too_long, too_many] {
        let (code, errno, message) = bench.refusal(start).await;
        assert_eq!((code, errno.as_str()), (ErrorCode::LimitExceeded, "E2BIG"), "{message}");
    }
}
